// Largest magnitude of a vector, and the range of phases of its spike train that follows from it (numerics.md, the codes).
//
// From the cycle after `start` the vector is read, a word per cycle. With `known`, four cycles after the last word was asked for, `k_first` (weight of
// the first phase; all phases of rate have it, bit-planes round by it, levels too), `k_min` and `phases` hold, in that cycle only. `ready` is the cycle before the coding,
// the last of P(N) + LATENCY from `start` on; `hold` keeps it off. With MAXIMUM_WRITTEN `written` is the largest magnitude in the cycle of `start`, nothing is
// read, `known` follows in the next cycle, and `ready` is the last of LATENCY.
`default_nettype none

module nmllm_encoder_range
  import nmllm_pkg::*;
#(
    parameter int unsigned LANES = VECTOR_LANES,
    parameter int unsigned LATENCY = VECTOR_LATENCY,
    parameter int unsigned WORDS = (TILE_INPUTS + LANES - 1) / LANES,
    parameter bit WRITTEN = MAXIMUM_WRITTEN != 0,
    localparam int unsigned LANE_BITS = $clog2(LANES),
    localparam int unsigned WORD_BITS = $clog2(WORDS + 1)
) (
    input  logic                           clk,
    input  logic                           rst,
    input  logic                           start,
    input  logic [         14:0]           size,
    input  code_t                          code,
    input  logic [          8:0]           limit,  // T
    input  logic                           hold,
    input  logic [         31:0]           written,
    // vector memory
    output logic                           read_enable,
    output logic [WORD_BITS-1:0]           read_word,
    input  logic [    LANES-1:0][31:0]     read_data,
    // words of the vector, and lanes of the last one
    output logic [WORD_BITS-1:0]           words,
    output logic [  LANE_BITS:0]           tail,
    // range
    output logic                           known,
    output logic [          5:0]           k_first,
    output logic [          5:0]           k_min,
    output logic [          8:0]           phases,
    output logic                           ready
);
  localparam int unsigned TIMER_BITS = WORD_BITS + $clog2(LATENCY) + 1;

  logic [TIMER_BITS-1:0] timer_q;  // cycles left before the coding
  logic [WORD_BITS-1:0] left_q;  // words to read
  logic last;
  logic [31:0] maximum_q;

  function automatic logic [5:0] bit_length(input logic [32:0] value);
    bit_length = '0;
    for (int unsigned i = 0; i < 33; ++i) if (value[i]) bit_length = 6'(i + 1);
  endfunction

  assign read_enable = left_q != '0;
  assign read_word = words - left_q;
  assign last = left_q == WORD_BITS'(1);
  assign ready = timer_q == TIMER_BITS'(1) && !hold;

  always_ff @(posedge clk) begin
    if (read_enable) left_q <= left_q - WORD_BITS'(1);
    if (timer_q != '0 && (ready || timer_q != TIMER_BITS'(1))) timer_q <= timer_q - TIMER_BITS'(1);
    if (start) begin
      words <= WORD_BITS'((32'(size) + LANES - 1) >> LANE_BITS);
      tail <= size[LANE_BITS-1:0] == '0 ? (LANE_BITS + 1)'(LANES) : {1'b0, size[LANE_BITS-1:0]};
      left_q <= WRITTEN ? '0 : WORD_BITS'((32'(size) + LANES - 1) >> LANE_BITS);
      timer_q <= (WRITTEN ? '0 : TIMER_BITS'((32'(size) + LANES - 1) >> LANE_BITS)) + TIMER_BITS'(LATENCY - 1);
    end
    if (rst) {left_q, timer_q} <= '0;
  end

  if (WRITTEN) begin : g_written
    always_ff @(posedge clk) begin
      known <= start;
      if (start) maximum_q <= written;
      if (rst) known <= 1'b0;
    end
    wire unused = &{1'b0, last, read_data};
  end else begin : g_read
    // Magnitudes lane by lane, then over the lanes, then the range.
    logic arrives_q, arrives_last_q, lanes_known_q;
    logic [31:0] lane_maximum_q[LANES];
    always_ff @(posedge clk) begin
      arrives_q <= read_enable;
      arrives_last_q <= last;
      lanes_known_q <= arrives_last_q;
      known <= lanes_known_q;
      if (start) begin
        for (int unsigned i = 0; i < LANES; ++i) lane_maximum_q[i] <= '0;
      end else if (arrives_q) begin
        for (int unsigned i = 0; i < LANES; ++i) begin
          automatic logic [31:0] magnitude = read_data[i][31] ? -read_data[i] : read_data[i];
          if ((!arrives_last_q || (LANE_BITS + 1)'(i) < tail) && magnitude > lane_maximum_q[i]) lane_maximum_q[i] <= magnitude;
        end
      end
      if (lanes_known_q) begin
        automatic logic [31:0] largest = '0;
        for (int unsigned i = 0; i < LANES; ++i) if (lane_maximum_q[i] > largest) largest = lane_maximum_q[i];
        maximum_q <= largest;
      end
      if (rst) {arrives_q, arrives_last_q, lanes_known_q, known} <= '0;
    end
    wire unused = &{1'b0, written};
  end

  always_comb begin
    // smallest k with numerator * 2^k >= bound
    automatic logic [13:0] numerator = STEPS != 0 ? LEVELS[6'(STEPS*32'(limit)-1)][13:0] : code == RATE ? 14'(limit) : 14'd3;
    automatic logic [32:0] bound = STEPS != 0 || code == RATE ? {1'b0, maximum_q} : {maximum_q, 1'b0};
    automatic logic [5:0] length = bit_length({1'b0, maximum_q});
    automatic logic [5:0] bound_length = bit_length(bound);
    automatic logic [5:0] numerator_length = bit_length({19'd0, numerator});
    automatic logic [5:0] least = bound_length > numerator_length ? bound_length - numerator_length : '0;
    automatic logic [46:0] reached = 47'(numerator) << least;
    automatic logic [5:0] covering = reached >= 47'(bound) ? least : least + 6'd1;
    automatic logic [5:0] top;
    unique case (code)
      FIRST_SPIKE: top = length;
      BIT_PLANES: top = length;
      default: top = covering;
    endcase
    if (STEPS != 0) top = covering;
    if (STEPS != 0 || code == RATE) k_min = covering;
    else if (9'(top) + 9'd1 > limit) k_min = 6'(9'(top) + 9'd1 - limit);
    else k_min = '0;
    k_first = code == BIT_PLANES ? k_min : top;
    if (STEPS != 0 || maximum_q == '0) phases = 9'd1;
    else if (code == RATE || code == BIT_PLANES) phases = limit;
    else phases = 9'(top) - 9'(k_min) + 9'd1;
  end

  if (LATENCY < 4) begin : g_latency
    $error("VECTOR_LATENCY must be at least 4 for the encoder");
  end
endmodule

`default_nettype wire
