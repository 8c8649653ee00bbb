// Value accumulators of an attention engine: each spike of a probability adds a shifted row of V, one per cycle.
//
// Takes the spikes of a word of keys when none are left (`ready`) and `working` is high for one cycle per spike, key by key, most significant phase
// first. A row is read once for all spikes of its key. Sums are complete when `idle`. `clear` in a cycle without work starts the next head.
// Paths of a cycle: next key (priority over SOFTMAX_LANES) and its first phase; shift, sum.
`default_nettype none

module nmllm_attention_values #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned SOFTMAX_LANES = nmllm_pkg::SOFTMAX_LANES,
    parameter int unsigned HEAD_DIM = 64,
    parameter int unsigned ROWS = 1024,
    parameter int unsigned WORDS = 32,
    parameter int unsigned SUM_BITS = 26,  // |sum| <= 2^24 for up to 8,192 tokens
    localparam int unsigned PHASES = 11,
    localparam int unsigned LEAST_PHASE = 5,
    localparam int unsigned ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1,
    localparam int unsigned WORD_BITS = WORDS > 1 ? $clog2(WORDS) : 1,
    localparam int unsigned KEY_BITS = SOFTMAX_LANES > 1 ? $clog2(SOFTMAX_LANES) : 1,
    localparam int unsigned DIM_BITS = $clog2(HEAD_DIM + 1),
    localparam int unsigned INDEX_BITS = $clog2(HEAD_DIM)
) (
    input  logic                                     clk,
    input  logic                                     rst,
    input  logic                                     clear,
    input  logic [    ROW_BITS-1:0]                  row_base,
    input  logic [             3:0]                  least,  // m
    // spikes of a word
    input  logic                                     valid,
    output logic                                     ready,
    input  logic [   WORD_BITS-1:0]                  word,
    input  logic [SOFTMAX_LANES-1:0][PHASES-1:0]     fired,  // phases 5 .. 15
    input  logic [SOFTMAX_LANES-1:0][PHASES-1:0]     negative,
    output logic                                     working,
    output logic                                     idle,
    // value memory
    output logic                                     value_enable,
    output logic [    ROW_BITS-1:0]                  value_row,
    input  logic [    HEAD_DIM-1:0][7:0]             values,
    input  logic [             1:0]                  value_exponent,
    // sums of elements read_element + 0, 1, .. (modulo its width)
    input  logic [    DIM_BITS-1:0]                  read_element,
    output logic [       LANES-1:0][SUM_BITS-1:0]    read_sums
);
  logic [PHASES-1:0] fired_q[SOFTMAX_LANES], negative_q[SOFTMAX_LANES];
  logic [SOFTMAX_LANES-1:0] occupied_q;
  logic fresh_q;
  logic [ROW_BITS-1:0] word_row_q;
  logic [KEY_BITS-1:0] key;
  logic [PHASES-1:0] bits, rest;
  logic [3:0] phase;  // less LEAST_PHASE

  logic add_valid_q, add_negative_q;
  logic [3:0] add_shift_q;
  logic signed [SUM_BITS-1:0] sum_q[HEAD_DIM];

  assign ready = occupied_q == '0;
  assign working = !ready;
  assign idle = ready && !add_valid_q;
  assign bits = fired_q[key];
  assign rest = bits & ~(PHASES'(1) << phase);
  assign value_enable = working && fresh_q;
  assign value_row = word_row_q + ROW_BITS'(key);

  always_comb begin
    key = '0;
    for (int unsigned i = SOFTMAX_LANES; i > 0; --i) if (occupied_q[i-1]) key = KEY_BITS'(i - 1);
  end

  always_comb begin
    phase = '0;
    for (int unsigned k = 0; k < PHASES; ++k) if (bits[k]) phase = 4'(k);
  end

  always_ff @(posedge clk) begin
    if (valid && ready) begin
      for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) begin
        fired_q[i] <= fired[i];
        negative_q[i] <= negative[i];
        occupied_q[i] <= fired[i] != '0;
      end
      fresh_q <= 1'b1;
      word_row_q <= row_base + ROW_BITS'(32'(word) * SOFTMAX_LANES);
    end else if (working) begin
      fired_q[key] <= rest;
      if (rest == '0) occupied_q[key] <= 1'b0;
      fresh_q <= rest == '0;
    end
    add_valid_q <= working;
    if (working) begin
      add_negative_q <= negative_q[key][phase];
      add_shift_q <= phase + 4'(LEAST_PHASE) - least;
    end
    if (rst) begin
      occupied_q <= '0;
      add_valid_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (clear) for (int unsigned i = 0; i < HEAD_DIM; ++i) sum_q[i] <= '0;
    else if (add_valid_q) begin
      automatic logic [3:0] places = add_shift_q + 4'(value_exponent);
      for (int unsigned i = 0; i < HEAD_DIM; ++i) begin
        automatic logic signed [SUM_BITS-1:0] step = SUM_BITS'(signed'(values[i])) <<< places;
        sum_q[i] <= add_negative_q ? sum_q[i] - step : sum_q[i] + step;
      end
    end
  end

  always_comb begin
    for (int unsigned i = 0; i < LANES; ++i) read_sums[i] = sum_q[INDEX_BITS'(32'(read_element)+i)];
  end

`ifndef SYNTHESIS
  clear_when_idle : assert property (@(posedge clk) disable iff (rst) clear |-> idle)
  else $error("clear_when_idle: spikes are being added");
  phase_allowed : assert property (@(posedge clk) disable iff (rst) working |-> 4'(phase + 4'(LEAST_PHASE)) >= least)
  else $error("phase_allowed: a spike below phase %0d", least);
  for (genvar i = 0; i < HEAD_DIM; ++i) begin : g_assert
    sum_fits : assert property (@(posedge clk) disable iff (rst) add_valid_q |=> sum_q[i][SUM_BITS-1] == sum_q[i][SUM_BITS-2])
    else $error("sum_fits: accumulator %0d leaves its bound", i);
  end
`endif
endmodule

`default_nettype wire
