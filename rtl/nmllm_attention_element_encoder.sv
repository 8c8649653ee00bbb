// Query encoder `element` of an attention engine: each element of a head once through a pipeline with a stage for each phase (numerics.md, Attention).
//
// Starts with `start`; in the cycle after, and then without a gap, `working` is high for P(D) + phases cycles of each head, `done` in the last of
// them. In the first P(D) of a head its words come into the pipeline; a word leaves it with all of its digits, those of stage t in bit t, in the
// cycle after its last stage, so the last word in the last cycle of the head.
// Paths of a cycle: R >> k, sum, comparison, remainder; choice of the last stage in use, number of the spikes.
`default_nettype none

module nmllm_attention_element_encoder #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned HEAD_DIM = 64,
    parameter int unsigned GROUP = 4,
    parameter int unsigned PHASES = 10,
    localparam int unsigned LANE_BITS = $clog2(LANES),
    localparam int unsigned DIM_BITS = $clog2(HEAD_DIM + 1),
    localparam int unsigned HEAD_BITS = GROUP > 1 ? $clog2(GROUP) : 1,
    localparam int unsigned HEADS_BITS = $clog2(GROUP + 1),
    localparam int unsigned SPIKE_BITS = $clog2(LANES * PHASES + 1)
) (
    input  logic                             clk,
    input  logic                             rst,
    // command
    input  logic                             start,
    input  logic [    DIM_BITS-1:0]          head_dim,
    input  logic [  HEADS_BITS-1:0]          heads,
    input  logic [             3:0]          phases_allowed,
    input  logic [            14:0]          first,  // element of the query vector at which the first head begins
    input  logic [       GROUP-1:0][31:0]    maximum,  // largest magnitude of every head
    output logic                             working,
    output logic                             done,
    // elements and stop prices: data in the cycle after the address
    output logic                             read_enable,
    output logic [            14:0]          read_word,
    input  logic [       LANES-1:0][31:0]    query_data,
    input  logic [       LANES-1:0][31:0]    stop_data,
    // spikes of a word: bit t of a lane is phase t
    output logic [       LANES-1:0][PHASES-1:0] fired,
    output logic [       LANES-1:0][PHASES-1:0] negative,
    output logic [  SPIKE_BITS-1:0]          spikes,  // their number
    output logic [    DIM_BITS-1:0]          element,  // of lane 0, modulo its width: only lanes of the mask fire
    output logic [   HEAD_BITS-1:0]          head,
    output logic [             3:0]          coded,  // words coded in this cycle, phase by phase
    // code of each head, from the cycle after `done` on
    output logic [       GROUP-1:0][3:0]     phases,
    output logic [       GROUP-1:0][4:0]     exponent  // k_q
);
  // head whose words are read
  logic [DIM_BITS:0] step_q;  // cycles of it so far
  logic [DIM_BITS-1:0] words;
  logic head_ends, active, ends;
  logic [HEAD_BITS-1:0] head_now;
  logic [14:0] word;
  logic [LANE_BITS-1:0] lane;
  logic [LANES-1:0] mask;
  logic [4:0] top;
  logic [3:0] head_phases;

  // head in the pipeline
  logic [3:0] phases_q;
  logic [LANES-1:0] mask_q;
  logic [LANE_BITS-1:0] lane_q;
  logic [DIM_BITS-1:0] word_q;  // word that leaves next
  logic leaves;

  assign head_ends = step_q + (DIM_BITS + 1)'(1) == (DIM_BITS + 1)'(words) + (DIM_BITS + 1)'(head_phases);
  assign read_enable = active && step_q < (DIM_BITS + 1)'(words);
  assign read_word = word + 15'(step_q);

  nmllm_attention_heads #(
      .LANES(LANES),
      .HEAD_DIM(HEAD_DIM),
      .GROUP(GROUP)
  ) u_heads (
      .clk,
      .rst,
      .start,
      .head_dim,
      .heads,
      .phases_allowed,
      .first,
      .maximum,
      .head_ends,
      .active,
      .ends,
      .head(head_now),
      .word,
      .words,
      .lane,
      .mask,
      .top,
      .head_phases,
      .phases,
      .exponent
  );

  always_ff @(posedge clk) begin
    if (active) step_q <= head_ends ? '0 : step_q + (DIM_BITS + 1)'(1);
    if (active) begin
      head <= head_now;
      phases_q <= head_phases;
      mask_q <= mask;
      lane_q <= lane;
    end
    if (leaves) word_q <= word_q + DIM_BITS'(1);
    if (step_q == '0) word_q <= '0;
    working <= active;
    done <= ends;
    if (rst) {working, done, step_q} <= '0;
  end

  // Stages: the word in each, with what is left of its elements, and the digits of a word after each.
  logic [PHASES:0] valid_q;
  logic [PHASES-1:0] used;
  logic [PHASES-1:0][LANES-1:0][31:0] value, price;
  // Nothing follows the last stage.
  // verilator lint_off UNUSEDSIGNAL
  logic [PHASES-1:0][LANES-1:0][31:0] rest;
  // verilator lint_on UNUSEDSIGNAL
  logic [PHASES-1:0][LANES-1:0][PHASES-1:0] fired_q, negative_q;

  always_ff @(posedge clk) begin
    valid_q <= {valid_q[PHASES-1:0] & used, read_enable};
    if (rst) valid_q <= '0;
  end

  for (genvar t = 0; t < int'(PHASES); ++t) begin : g_stage
    logic enable;
    logic [4:0] k_q;
    logic [LANES-1:0] fires;
    logic [LANES-1:0][PHASES-1:0] fired_before, negative_before;

    assign used[t] = 4'(t) < phases_q;
    assign enable = valid_q[t] && used[t];

    always_ff @(posedge clk) begin
      if (active) k_q <= top - 5'(t);
    end

    if (t == 0) begin : g_first
      assign value[t] = query_data;
      assign price[t] = stop_data;
      assign fired_before = '0;
      assign negative_before = '0;
    end else begin : g_next
      logic [LANES-1:0][31:0] value_q, price_q;
      always_ff @(posedge clk) begin
        if (valid_q[t-1] && used[t]) begin
          value_q <= rest[t-1];
          price_q <= price[t-1];
        end
      end
      assign value[t] = value_q;
      assign price[t] = price_q;
      assign fired_before = fired_q[t-1];
      assign negative_before = negative_q[t-1];
    end

    nmllm_signed_digits #(
        .LANES(LANES)
    ) digits (
        .enable,
        .k({1'b0, k_q}),
        .value(value[t]),
        .price(price[t]),
        .fires,
        .rest(rest[t])
    );

    always_ff @(posedge clk) begin
      if (enable) begin
        for (int unsigned i = 0; i < LANES; ++i) begin
          fired_q[t][i] <= fired_before[i] | PHASES'(fires[i] && mask_q[i]) << t;
          negative_q[t][i] <= negative_before[i] | PHASES'(value[t][i][31]) << t;
        end
      end
    end
  end

  // Words that leave
  assign leaves = valid_q[phases_q];
  assign element = DIM_BITS'({word_q, LANE_BITS'(0)}) - DIM_BITS'(lane_q);

  always_comb begin
    fired = '0;
    negative = '0;
    spikes = '0;
    coded = '0;
    if (leaves) begin
      fired = fired_q[phases_q-4'd1];
      negative = negative_q[phases_q-4'd1];
    end
    for (int unsigned i = 0; i < LANES; ++i) for (int unsigned t = 0; t < PHASES; ++t) spikes += SPIKE_BITS'(fired[i][t]);
    for (int unsigned t = 0; t < PHASES; ++t) coded += 4'(valid_q[t] && used[t]);
  end
endmodule

`default_nettype wire
