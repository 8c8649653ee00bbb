// Encoder `element`: every element once through a pipeline with a stage and an event bank for each phase (timing.md, `encode`).
//
// `known` brings the range of the phases, with `ready` the first word is read, and the pass begins. Stage t has its digits of a word t cycles after the
// word's data came, writes them into bank t, and hands on what is left of the elements, with their prices. The last stage in use has the last word in cycle
// P(N) + phases - 1 of the pass; in one more cycle the first bank is read. Then the banks are sent, from phase 0 on, which is the most significant one, or with
// ASCENDING from the last one on; not before `hold` is low in the cycle before. `done`: the last flit of the train is pushed in this cycle.
// Paths: a stage, as the scan of nmllm_phase_encoder; choice of a bank and of its events (nmllm_event_flits).
`default_nettype none

module nmllm_element_encoder
  import nmllm_pkg::*;
#(
    parameter int unsigned LANES = VECTOR_LANES,
    parameter int unsigned EVENTS = EVENTS_PER_FLIT,
    parameter int unsigned WORDS = (TILE_INPUTS + LANES - 1) / LANES,
    parameter int unsigned PHASES = MAX_PHASES,  // of a train, at most
    parameter bit ASCENDING = 1'b0,  // weights of the phases as they are sent
    localparam int unsigned LANE_BITS = $clog2(LANES),
    localparam int unsigned WORD_BITS = $clog2(WORDS + 1)
) (
    input  logic                             clk,
    input  logic                             rst,
    input  code_t                            code,
    input  logic [          8:0]             limit,  // T
    input  logic [WORD_BITS-1:0]             words,
    input  logic [  LANE_BITS:0]             tail,
    input  logic                             known,
    input  logic [          5:0]             k_first,
    input  logic [          8:0]             phases,
    input  logic                             ready,
    input  logic                             hold,
    // vector memory
    output logic                             read_enable,
    output logic [WORD_BITS-1:0]             read_word,
    input  logic [    LANES-1:0][31:0]       read_data,
    input  logic [    LANES-1:0][31:0]       stop_data,
    // flits
    output logic                             spike_valid,
    input  logic                             spike_ready,
    output logic [   EVENTS-1:0][15:0]       chosen,
    output logic                             last_flit,
    output logic                             last_phase,
    output logic                             sent,
    output logic                             done
);
  localparam int unsigned ENTRY_BITS = WORD_BITS + 2 * LANES;
  localparam int unsigned BANK_BITS = PHASES > 1 ? $clog2(PHASES) : 1;

  // pass: words to read; stages in use, those with a word in them, and where the last word is, up to one stage beyond
  logic reading_q, last_read;
  logic [WORD_BITS-1:0] next_word_q;
  logic [8:0] phases_q;
  logic [PHASES-1:0] used, valid_q;
  logic [PHASES:0] last_q;
  logic ended, waiting_q;

  // banks
  logic begins, sending_q;
  logic [BANK_BITS-1:0] first_bank, last_bank, bank_q, next_bank;
  logic [PHASES-1:0][WORD_BITS-1:0] entries;
  logic [PHASES-1:0][EVENTS-1:0][ENTRY_BITS-1:0] slot;
  logic [WORD_BITS-1:0] head_next;

  assign read_enable = ready || reading_q;
  assign read_word = ready ? '0 : next_word_q;
  assign last_read = read_enable && read_word + WORD_BITS'(1) == words;
  assign ended = last_q[$clog2(PHASES + 1)'(phases_q)];
  assign begins = (ended || waiting_q) && !hold;

  always_ff @(posedge clk) begin
    if (known) phases_q <= phases;
    if (ready) reading_q <= 1'b1;
    if (last_read) reading_q <= 1'b0;
    next_word_q <= read_word + WORD_BITS'(1);
    valid_q <= PHASES'({valid_q & used, read_enable});
    last_q <= {last_q[PHASES-1:0] & used, last_read};
    waiting_q <= (ended || waiting_q) && hold;
    if (begins) sending_q <= 1'b1;
    if (done) sending_q <= 1'b0;
    if (rst) {reading_q, valid_q, last_q, waiting_q, sending_q} <= '0;
  end

  // A word in each stage, with what is left of its elements.
  logic [PHASES-1:0][WORD_BITS-1:0] word_q;
  logic [PHASES-1:0][LANES-1:0][31:0] value, price;
  // Nothing follows the last stage.
  // verilator lint_off UNUSEDSIGNAL
  logic [PHASES-1:0][LANES-1:0][31:0] rest;
  // verilator lint_on UNUSEDSIGNAL

  for (genvar t = 0; t < int'(PHASES); ++t) begin : g_stage
    logic enable;
    logic [5:0] k_q;
    logic [LANES-1:0] lane_valid, fires, negative;

    assign used[t] = 9'(t) < phases_q;
    assign enable = valid_q[t] && used[t];
    always_comb for (int unsigned i = 0; i < LANES; ++i) lane_valid[i] = !last_q[t] || (LANE_BITS + 1)'(i) < tail;

    always_ff @(posedge clk) begin
      if (known) k_q <= code == SIGNED_DIGIT || code == FIRST_SPIKE ? k_first - 6'(t) : k_first;
    end

    if (t == 0) begin : g_first
      assign value[t] = read_data;
      assign price[t] = stop_data;
      always_ff @(posedge clk) word_q[t] <= read_word;
    end else begin : g_next
      logic [LANES-1:0][31:0] value_q, price_q;
      always_ff @(posedge clk) begin
        if (valid_q[t-1] && used[t]) begin
          word_q[t] <= word_q[t-1];
          value_q <= rest[t-1];
          price_q <= price[t-1];
        end
      end
      assign value[t] = value_q;
      assign price[t] = price_q;
    end

    nmllm_encoder_digits #(
        .LANES(LANES)
    ) digits (
        .enable,
        .code,
        .limit,
        .first(t == 0),
        .left(phases_q - 9'(t)),
        .k(k_q),
        .lane_valid,
        .value(value[t]),
        .price(price[t]),
        .fires,
        .negative,
        .rest(rest[t])
    );

    nmllm_event_bank #(
        .LANES (LANES),
        .EVENTS(EVENTS),
        .WORDS (WORDS)
    ) bank (
        .clk,
        .rst,
        .clear(ready),
        .write(enable && |fires),
        .entry({word_q[t], negative, fires}),
        .entries(entries[t]),
        .read_enable((begins || sending_q) && next_bank == BANK_BITS'(t)),
        .head(head_next),
        .slot(slot[t])
    );
  end

  // Injection: bank by bank.
  assign first_bank = ASCENDING ? BANK_BITS'(phases_q - 9'd1) : '0;
  assign last_bank = ASCENDING ? '0 : BANK_BITS'(phases_q - 9'd1);
  assign next_bank = begins ? first_bank : !sent ? bank_q : ASCENDING ? bank_q - BANK_BITS'(1) : bank_q + BANK_BITS'(1);
  assign last_phase = bank_q == last_bank;
  assign done = sent && last_phase;

  always_ff @(posedge clk) bank_q <= next_bank;

  nmllm_event_flits #(
      .LANES (LANES),
      .EVENTS(EVENTS),
      .WORDS (WORDS)
  ) flits (
      .clk,
      .rst,
      .complete(sending_q),
      .entries(entries[bank_q]),
      .slot(slot[bank_q]),
      .head_next,
      .spike_valid,
      .spike_ready,
      .chosen,
      .last_flit,
      .sent
  );

`ifndef SYNTHESIS
  stages_suffice : assert property (@(posedge clk) disable iff (rst) known |-> 32'(phases) <= PHASES)
  else $error("stages_suffice: a train of %0d phases, there are %0d stages", phases, PHASES);
`endif
endmodule

`default_nettype wire
