// Host tile: fetches the embedding row of each token from DRAM, sends it to the first layer and takes the tokens that come back (timing.md, Host tile).
//
// The run begins in the first cycle without `rst`. DRAM answers a read DRAM_LATENCY (at least 1) cycles later, a word of DRAM_BYTES_PER_CYCLE
// bytes each cycle; a row starts with a word.
//
// The prompts are taken one after another, then the tokens that come back, in their order. Tokens come back in rounds of ascending sequences, so
// that a token whose sequence is not above that of the one before begins a round (timing.md, Several sequences).
//
// Register map (cfg_unit, cfg_address, cfg_data), between runs:
//   unit 1   0 hidden size N     1 words of a row    2 embedding shift    3 tokens of all prompts    4 new tokens of a sequence at most
//            5 route to the first layer              6 route of its credits              7 sequences
//            8 .. 11 {valid[32], token}: tokens that end a sequence
//   unit 2   the prompts, one behind another: {last of its prompt[32], token} each
`default_nettype none

module nmllm_host_tile
  import nmllm_pkg::*;
#(
    parameter int unsigned PROMPT = 8192,
    localparam int unsigned VALUES = DRAM_BYTES_PER_CYCLE / 2  // of a word of DRAM
) (
    input  logic                      clk,
    input  logic                      rst,
    input  logic                      cfg_valid,
    input  logic  [ 3:0]              cfg_unit,
    // Registers are narrower than the bus.
    // verilator lint_off UNUSEDSIGNAL
    input  logic  [23:0]              cfg_address,
    input  logic  [63:0]              cfg_data,
    // verilator lint_on UNUSEDSIGNAL
    input  logic                      in_valid,
    // verilator lint_off UNUSEDSIGNAL
    input  flit_t                     in_flit,
    // verilator lint_on UNUSEDSIGNAL
    output logic                      out_valid,
    input  logic                      out_ready,
    output flit_t                     out_flit,
    output logic                      dram_enable,
    output logic  [31:0]              dram_address,
    input  logic  [VALUES-1:0][15:0]  dram_data,
    output logic                      token_valid,  // a token arrives with this cycle
    output logic  [31:0]              token,
    output logic  [SEQUENCE_BITS-1:0] token_sequence,
    output logic                      done,         // all wanted tokens have arrived
    output logic  [63:0]              dram_bits_read,
    // power (nmllm_tile_switch)
    output order_t                    orders,  // to the first layer's vector tile
    output logic                      token_ended  // a token is here
);
  /* verilator no_inline_module */  // one C++ function for all instances
  localparam int unsigned PROMPT_BITS = $clog2(PROMPT);
  localparam int unsigned ROW_WORDS = VECTOR_MEMORY_BYTES / 4 / VALUES;  // more than any vector has
  localparam int unsigned WORD_BITS = $clog2(ROW_WORDS);
  localparam int unsigned SHORTEST_STEP = WAKE_CYCLES > 1 ? WAKE_CYCLES : 1;
  localparam int unsigned PAIR_BITS = $clog2(VALUES) - 1;

  typedef enum logic [1:0] {STEP, PUSH, IDLE} state_t;

  logic [14:0] hidden_q;
  logic [14:0] row_words_q;
  logic [4:0] shift_q;
  logic [31:0] prompt_tokens_q, new_tokens_q;
  logic [ROUTE_BITS-1:0] out_route_q, credit_route_q;
  logic [SEQUENCE_BITS:0] sequences_q;
  logic [32:0] ends_q[4];
  logic [32:0] prompt_q[PROMPT];

  always_ff @(posedge clk) begin
    if (cfg_valid && cfg_unit == 4'd1) begin
      unique case (cfg_address[3:0])
        4'd0: hidden_q <= cfg_data[14:0];
        4'd1: row_words_q <= cfg_data[14:0];
        4'd2: shift_q <= cfg_data[4:0];
        4'd3: prompt_tokens_q <= cfg_data[31:0];
        4'd4: new_tokens_q <= cfg_data[31:0];
        4'd5: out_route_q <= cfg_data[ROUTE_BITS-1:0];
        4'd6: credit_route_q <= cfg_data[ROUTE_BITS-1:0];
        4'd7: sequences_q <= cfg_data[SEQUENCE_BITS:0];
        4'd8, 4'd9, 4'd10, 4'd11: ends_q[cfg_address[1:0]] <= cfg_data[32:0];
        default: ;
      endcase
    end
    if (cfg_valid && cfg_unit == 4'd2) prompt_q[cfg_address[PROMPT_BITS-1:0]] <= cfg_data[32:0];
  end

  state_t state_q;
  logic [31:0] elapsed_q, row_q;
  logic [31:0] row_token, decoded_q;  // of the step under way; of the latest one that is not of a prompt
  logic [SEQUENCE_BITS-1:0] sequence_q;  // of the step under way
  logic of_prompt, ends_prompt;  // so is its token
  logic [3:0] credits_q;
  logic granted_q, grant, push, last_push;
  logic [14:0] element_q;
  logic credit_arrives;

  // Tokens that come back.
  logic any_token_q, begins_round, ends;
  logic [SEQUENCE_BITS-1:0] latest_q;  // sequence of the latest one
  logic [SEQUENCE_BITS:0] ended_q;  // sequences
  logic [31:0] rounds_q, round;  // begun, with the present token
  assign credit_arrives = in_valid && in_flit.route == credit_route_q;
  assign token_valid = in_valid && !credit_arrives && !done;
  assign token = in_flit.payload[31:0];
  assign token_sequence = in_flit.tag[SEQUENCE_BITS-1:0];
  assign begins_round = !any_token_q || token_sequence <= latest_q;
  assign round = rounds_q + 32'(begins_round);
  always_comb begin
    ends = round == new_tokens_q;
    for (int i = 0; i < 4; i++) ends |= ends_q[i][32] && ends_q[i][31:0] == token;
  end

  // Those that go on wait for their step; where none waits, the one that arrives is next.
  logic [SEQUENCE_BITS-1:0] first_q, next_sequence;
  logic [SEQUENCE_BITS:0] waiting_q;
  logic [SEQUENCE_BITS+31:0] queue_q[SEQUENCES];
  logic [31:0] next_token;
  logic goes_on, begin_decode;
  assign goes_on = token_valid && !ends;
  assign {next_sequence, next_token} = waiting_q != '0 ? queue_q[first_q] : {token_sequence, token};
  always_ff @(posedge clk) begin
    if (goes_on) queue_q[first_q+waiting_q[SEQUENCE_BITS-1:0]] <= {token_sequence, token};
    waiting_q <= waiting_q + (SEQUENCE_BITS + 1)'(goes_on) - (SEQUENCE_BITS + 1)'(begin_decode);
    first_q <= first_q + SEQUENCE_BITS'(begin_decode);
    if (rst) {first_q, waiting_q} <= '0;
  end

  // Word of both reaches the switches a cycle after the begin of the step and the end of the token, which is the cycle after its arrival.
  logic token_here_q;
  always_ff @(posedge clk) begin
    token_here_q <= token_valid && !rst;
    token_ended <= token_here_q && !rst;
  end
  assign orders = '{stage: !rst && state_q == STEP && elapsed_q == 32'd1, site: 1'b0, number: '0};

  // Fetch.
  logic [31:0] fetched;
  assign fetched = elapsed_q - HOST_LATENCY;
  assign dram_enable = !rst && state_q == STEP && elapsed_q >= HOST_LATENCY && fetched < 32'(row_words_q);
  assign of_prompt = row_q < prompt_tokens_q;
  assign ends_prompt = of_prompt && prompt_q[PROMPT_BITS'(row_q)][32];
  assign row_token = of_prompt ? prompt_q[PROMPT_BITS'(row_q)][31:0] : decoded_q;
  assign dram_address = row_token * 32'(row_words_q) + fetched;
  logic [VALUES-1:0][15:0] row_words[ROW_WORDS];
  logic [31:0] returned;
  assign returned = fetched - DRAM_LATENCY;
  always_ff @(posedge clk) begin
    if (state_q == STEP && elapsed_q >= HOST_LATENCY + DRAM_LATENCY && returned < 32'(row_words_q)) row_words[returned[WORD_BITS-1:0]] <= dram_data;
  end

  // Send.
  logic [VALUES-1:0][15:0] word;
  logic signed [31:0] low, high;
  assign word = row_words[WORD_BITS'(element_q>>(PAIR_BITS+1))];
  assign low = 32'(signed'(word[{element_q[PAIR_BITS:1], 1'b0}])) << shift_q;
  assign high = 32'(signed'(word[{element_q[PAIR_BITS:1], 1'b1}])) << shift_q;
  assign grant = state_q == PUSH && !granted_q && credits_q != '0;
  assign out_valid = !rst && state_q == PUSH && (granted_q || credits_q != '0);
  assign push = out_valid && out_ready;
  assign last_push = push && element_q + 15'd2 >= hidden_q;
  always_comb begin
    out_flit = '0;
    out_flit.route = out_route_q;
    out_flit.flag = element_q + 15'd1 == hidden_q;
    out_flit.tag = {!of_prompt || ends_prompt, 15'(sequence_q)};
    out_flit.payload = {out_flit.flag ? 32'd0 : high, low};
  end

  logic more_prompt;
  assign more_prompt = row_q + 32'd1 < prompt_tokens_q;
  // The next decoded token's step begins after its arrival and after the last push, whichever comes later.
  assign begin_decode = (state_q == IDLE || last_push) && !more_prompt && (waiting_q != '0 || goes_on);

  always_ff @(posedge clk) begin
    if (rst) begin
      state_q <= STEP;
      elapsed_q <= '0;
      row_q <= '0;
      sequence_q <= '0;
      any_token_q <= 1'b0;
      rounds_q <= '0;
      ended_q <= '0;
      credits_q <= 4'd2;
      granted_q <= 1'b0;
      element_q <= '0;
      done <= 1'b0;
      dram_bits_read <= '0;
    end else begin
      credits_q <= credits_q + 4'(credit_arrives) - 4'(grant);
      granted_q <= out_valid && !last_push;
      if (push) element_q <= last_push ? '0 : element_q + 15'd2;
      if (state_q == STEP) begin
        elapsed_q <= elapsed_q + 32'd1;
        if (elapsed_q + 32'd1 >= HOST_LATENCY + DRAM_LATENCY + 32'(row_words_q) && elapsed_q + 32'd1 >= SHORTEST_STEP) begin
          state_q <= PUSH;
          dram_bits_read <= dram_bits_read + 16 * 64'(hidden_q);
        end
      end
      if (token_valid) begin
        any_token_q <= 1'b1;
        latest_q <= token_sequence;
        rounds_q <= round;
        ended_q <= ended_q + (SEQUENCE_BITS + 1)'(ends);
        done <= ends && ended_q + (SEQUENCE_BITS + 1)'(1) == sequences_q;
      end
      if (last_push) state_q <= IDLE;
      if ((last_push && more_prompt) || begin_decode) begin
        state_q <= STEP;
        elapsed_q <= '0;
        row_q <= row_q + 32'd1;
        decoded_q <= next_token;
        sequence_q <= begin_decode ? next_sequence : sequence_q + SEQUENCE_BITS'(ends_prompt);
      end
    end
  end

`ifndef SYNTHESIS
  stable_output : assert property (@(posedge clk) disable iff (rst) out_valid && !out_ready |=> out_valid && $stable(out_flit))
  else $error("stable_output: a flit was withdrawn or changed before it was accepted");
`endif
endmodule

`default_nettype wire
