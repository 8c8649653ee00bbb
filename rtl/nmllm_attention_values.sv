// Value accumulators of an attention engine: each spike of a probability adds a shifted row of V, one of each head of a set per cycle.
//
// Takes the spikes of a word of keys when none are left (`ready`) and `working` is high for the steps of its keys: key by key, most significant phase
// first, as many cycles as the head with most spikes there has. A row is read once for all spikes of its key. Sums are complete when `idle`. `clear` in a
// cycle without work starts the next set. Paths of a cycle: next key (priority over SOFTMAX_LANES) and its first phase; shift, sum.
`default_nettype none

module nmllm_attention_values #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned SOFTMAX_LANES = nmllm_pkg::SOFTMAX_LANES,
    parameter int unsigned HEAD_DIM = 64,
    parameter int unsigned SET = 1,  // heads added at once
    parameter int unsigned ROWS = 1024,
    parameter int unsigned WORDS = 32,
    parameter int unsigned SUM_BITS = 26,  // |sum| <= 2^24 for up to 8,192 tokens
    localparam int unsigned PHASES = 11,
    localparam int unsigned LEAST_PHASE = 5,
    localparam int unsigned ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1,
    localparam int unsigned WORD_BITS = WORDS > 1 ? $clog2(WORDS) : 1,
    localparam int unsigned KEY_BITS = SOFTMAX_LANES > 1 ? $clog2(SOFTMAX_LANES) : 1,
    localparam int unsigned DIM_BITS = $clog2(HEAD_DIM + 1),
    localparam int unsigned INDEX_BITS = $clog2(HEAD_DIM),
    localparam int unsigned LANE_BITS = SET > 1 ? $clog2(SET) : 1
) (
    input  logic                                     clk,
    input  logic                                     rst,
    input  logic                                     clear,
    input  logic [    ROW_BITS-1:0]                  row_base,
    input  logic [         SET-1:0][3:0]             least,  // m
    // spikes of a word
    input  logic                                     valid,
    output logic                                     ready,
    input  logic [   WORD_BITS-1:0]                  word,
    input  logic [         SET-1:0][SOFTMAX_LANES-1:0][PHASES-1:0] fired,  // phases 5 .. 15
    input  logic [         SET-1:0][SOFTMAX_LANES-1:0][PHASES-1:0] negative,
    output logic                                     working,
    output logic [         SET-1:0]                  adding,  // heads
    output logic                                     idle,
    // value memory
    output logic                                     value_enable,
    output logic [    ROW_BITS-1:0]                  value_row,
    input  logic [    HEAD_DIM-1:0][7:0]             values,
    input  logic [             1:0]                  value_exponent,
    // sums of elements read_element + 0, 1, .. (modulo its width) of a head
    input  logic [   LANE_BITS-1:0]                  read_head,
    input  logic [    DIM_BITS-1:0]                  read_element,
    output logic [       LANES-1:0][SUM_BITS-1:0]    read_sums
);
  logic [SET-1:0][PHASES-1:0] fired_q[SOFTMAX_LANES], negative_q[SOFTMAX_LANES];
  logic [SOFTMAX_LANES-1:0] occupied_q;
  logic fresh_q;
  logic [ROW_BITS-1:0] word_row_q;
  logic [KEY_BITS-1:0] key;
  logic [SET-1:0][PHASES-1:0] bits, rest;
  logic [SET-1:0][3:0] phase;  // less LEAST_PHASE

  logic [SET-1:0] add_valid_q, add_negative_q;
  logic [SET-1:0][3:0] add_shift_q;
  logic signed [SUM_BITS-1:0] sum_q[SET][HEAD_DIM];

  assign ready = occupied_q == '0;
  assign working = !ready;
  assign idle = ready && add_valid_q == '0;
  assign bits = fired_q[key];
  assign value_enable = working && fresh_q;
  assign value_row = word_row_q + ROW_BITS'(key);

  always_comb begin
    key = '0;
    for (int unsigned i = SOFTMAX_LANES; i > 0; --i) if (occupied_q[i-1]) key = KEY_BITS'(i - 1);
  end

  always_comb begin
    phase = '0;
    for (int unsigned h = 0; h < SET; ++h) begin
      adding[h] = working && bits[h] != '0;
      for (int unsigned k = 0; k < PHASES; ++k) if (bits[h][k]) phase[h] = 4'(k);
      rest[h] = bits[h] & ~(PHASES'(1) << phase[h]);
    end
  end

  always_ff @(posedge clk) begin
    if (valid && ready) begin
      for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) begin
        automatic logic [SET-1:0] fires;
        for (int unsigned h = 0; h < SET; ++h) begin
          fired_q[i][h] <= fired[h][i];
          negative_q[i][h] <= negative[h][i];
          fires[h] = fired[h][i] != '0;
        end
        occupied_q[i] <= fires != '0;
      end
      fresh_q <= 1'b1;
      word_row_q <= row_base + ROW_BITS'(32'(word) * SOFTMAX_LANES);
    end else if (working) begin
      fired_q[key] <= rest;
      if (rest == '0) occupied_q[key] <= 1'b0;
      fresh_q <= rest == '0;
    end
    add_valid_q <= adding;
    if (working) begin
      for (int unsigned h = 0; h < SET; ++h) begin
        add_negative_q[h] <= negative_q[key][h][phase[h]];
        add_shift_q[h] <= phase[h] + 4'(LEAST_PHASE) - least[h];
      end
    end
    if (rst) begin
      occupied_q <= '0;
      add_valid_q <= '0;
    end
  end

  always_ff @(posedge clk) begin
    for (int unsigned h = 0; h < SET; ++h) begin
      if (clear) for (int unsigned i = 0; i < HEAD_DIM; ++i) sum_q[h][i] <= '0;
      else if (add_valid_q[h]) begin
        automatic logic [3:0] places = add_shift_q[h] + 4'(value_exponent);
        for (int unsigned i = 0; i < HEAD_DIM; ++i) begin
          automatic logic signed [SUM_BITS-1:0] step = SUM_BITS'(signed'(values[i])) <<< places;
          sum_q[h][i] <= add_negative_q[h] ? sum_q[h][i] - step : sum_q[h][i] + step;
        end
      end
    end
  end

  always_comb begin
    for (int unsigned i = 0; i < LANES; ++i) read_sums[i] = sum_q[read_head][INDEX_BITS'(32'(read_element)+i)];
  end

`ifndef SYNTHESIS
  clear_when_idle : assert property (@(posedge clk) disable iff (rst) clear |-> idle)
  else $error("clear_when_idle: spikes are being added");
  for (genvar h = 0; h < SET; ++h) begin : g_head
    phase_allowed : assert property (@(posedge clk) disable iff (rst) adding[h] |-> 4'(phase[h] + 4'(LEAST_PHASE)) >= least[h])
    else $error("phase_allowed: a spike below phase %0d", least[h]);
    for (genvar i = 0; i < HEAD_DIM; ++i) begin : g_assert
      sum_fits : assert property (@(posedge clk) disable iff (rst) add_valid_q[h] |=> sum_q[h][i][SUM_BITS-1] == sum_q[h][i][SUM_BITS-2])
      else $error("sum_fits: accumulator %0d leaves its bound", i);
    end
  end
`endif
endmodule

`default_nettype wire
