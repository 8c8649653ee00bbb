// RMSNorm of one vector (numerics.md): reads the residual memory three times and the gains once, writes the vector memory. With MAXIMUM_WRITTEN
// all magnitudes, joined by OR, come with `start`, and the residual memory is read twice.
//
// Command: `start` with `size` (N) and the addresses of the first words; takes 3 P(N) + LATENCY cycles, or 2 P(N) + LATENCY. Lanes of the last word beyond N are
// read as 0 and written as 0. The exponent needs 3 cycles after the maximum pass, sum, root and reciprocal 56 after the squares,
// scaling 4 after the last word; what LATENCY has beyond its least, 63, is idle.
//
// Register map (cfg_address): 0 E, the epsilon term (62 bits); 1 the output shift 24 + gain_fraction - f_norm (1..54).
// Counters: elements (N a norm, which are also those compared for the maximum), square roots and divisions (one each), words of 32 bits read
// (4 N, or 3 N) and written (N).
`default_nettype none

module nmllm_norm #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned LATENCY = nmllm_pkg::NORM_LATENCY,
    parameter int unsigned ADDRESS_BITS = $clog2(nmllm_pkg::VECTOR_MEMORY_BYTES / 4 / LANES),
    parameter bit WRITTEN = nmllm_pkg::MAXIMUM_WRITTEN != 0
) (
    input  logic                           clk,
    input  logic                           rst,
    input  logic                           cfg_valid,
    input  logic                           cfg_address,
    // Registers are narrower than the bus.
    // verilator lint_off UNUSEDSIGNAL
    input  logic        [            63:0] cfg_data,
    // verilator lint_on UNUSEDSIGNAL
    // command
    input  logic                           start,
    input  logic        [            14:0] size,
    input  logic        [ADDRESS_BITS-1:0] residual_base,
    input  logic        [ADDRESS_BITS-1:0] gain_base,
    input  logic        [ADDRESS_BITS-1:0] output_base,
    // verilator lint_off UNUSEDSIGNAL
    input  logic        [            31:0] magnitudes,  // with MAXIMUM_WRITTEN
    // verilator lint_on UNUSEDSIGNAL
    output logic                           done,
    // memories
    output logic                           residual_enable,
    output logic        [ADDRESS_BITS-1:0] residual_address,
    input  logic [LANES-1:0][        31:0] residual_data,
    output logic                           gain_enable,
    output logic        [ADDRESS_BITS-1:0] gain_address,
    input  logic [LANES-1:0][        31:0] gain_data,
    output logic                           write_enable,
    output logic        [ADDRESS_BITS-1:0] write_address,
    output logic [LANES-1:0][        31:0] write_data,
    // counters
    output logic        [            47:0] count_elements,
    output logic        [            47:0] count_square_roots,
    output logic        [            47:0] count_divisions,
    output logic        [            47:0] count_words_read,
    output logic        [            47:0] count_words_written
);
  /* verilator no_inline_module */  // one C++ function for all instances
  localparam int unsigned LANE_BITS = $clog2(LANES);
  localparam int unsigned TIMER_BITS = 18 + $clog2(LATENCY);

  typedef enum logic [3:0] {
    IDLE, MAXIMUM, EXPONENT, SQUARES, EPSILON, NORMALISE, ROOT_START, ROOT, DIVIDE_START, DIVIDE, SCALE
  } state_t;

  state_t state_q;
  logic [61:0] epsilon_q;
  logic [5:0] output_shift_q;

  // command
  logic [14:0] words_q, word_q;
  logic [LANE_BITS:0] tail_q;  // valid lanes of the last word
  logic [ADDRESS_BITS-1:0] residual_base_q, gain_base_q, output_base_q;
  logic [TIMER_BITS-1:0] timer_q;
  logic [14:0] words;

  // scalars of numerics.md
  logic [31:0] magnitudes_q;  // all |r| joined by OR, which has the length of the largest one
  logic [4:0] exponent_q;  // e
  logic [61:0] sum_q;  // ss, then ss'
  logic [4:0] half_q;  // h
  logic [61:0] with_epsilon;
  logic [30:0] root;  // rho
  logic [16:0] inverse;  // inv
  logic [5:0] scale_shift;  // 22 + e - h, plus the 8 places by which products are shifted left
  logic root_done, divide_done;

  // pipeline: word issued in the cycle before stage 1
  logic pass, issue, issue_last;
  logic s1_valid_q, s2_valid_q, s3_valid_q, s4_valid_q;
  logic s1_last_q, s2_last_q, s3_last_q;
  logic signed [31:0] r[LANES];
  logic signed [16:0] shifted_q[LANES];
  logic [31:0] square_q[LANES];
  logic signed [48:0] scaled_q[LANES];
  logic signed [25:0] normal_q[LANES];  // u
  logic signed [57:0] product_q[LANES];
  logic signed [31:0] gain1_q[LANES], gain2_q[LANES];
  logic [ADDRESS_BITS-1:0] output_word_q;

  function automatic logic [5:0] bit_length(input logic [61:0] value);
    bit_length = '0;
    for (int unsigned i = 0; i < 62; ++i) if (value[i]) bit_length = 6'(i + 1);
  endfunction

  function automatic logic signed [63:0] round_shift(input logic signed [63:0] value, input logic [5:0] places);
    round_shift = (value + signed'((64'd1 << places) >> 1)) >>> places;
  endfunction

  function automatic logic signed [31:0] saturate(input logic signed [63:0] value);
    if (value > 64'sh7fff_ffff) saturate = 32'h7fff_ffff;
    else if (value < -64'sh8000_0000) saturate = 32'h8000_0000;
    else saturate = value[31:0];
  endfunction

  assign words = 15'((32'(size) + LANES - 1) >> LANE_BITS);
  assign pass = state_q == MAXIMUM || state_q == SQUARES || state_q == SCALE;
  assign issue = pass && word_q != words_q;
  assign issue_last = word_q + 15'd1 == words_q;
  assign residual_enable = issue;
  assign residual_address = residual_base_q + ADDRESS_BITS'(word_q);
  assign gain_enable = issue && state_q == SCALE;
  assign gain_address = gain_base_q + ADDRESS_BITS'(word_q);
  assign done = timer_q == TIMER_BITS'(1);
  assign scale_shift = 6'd30 + 6'(exponent_q) - 6'(half_q);
  assign with_epsilon = sum_q + (epsilon_q >> {exponent_q, 1'b0});

  for (genvar i = 0; i < LANES; ++i) begin : g_lane
    assign r[i] = s1_last_q && tail_q <= (LANE_BITS + 1)'(i) ? '0 : residual_data[i];
  end

  nmllm_isqrt #(
      .RADICAND_BITS(62)
  ) u_isqrt (
      .clk,
      .rst,
      .start(state_q == ROOT_START),
      .radicand(sum_q << {half_q, 1'b0}),
      .done(root_done),
      .root
  );

  nmllm_divide #(
      .DIVISOR_BITS (31),
      .QUOTIENT_BITS(17)
  ) u_divide (
      .clk,
      .rst,
      .start(state_q == DIVIDE_START),
      .dividend(48'd1 << 46),
      .divisor(root),
      .done(divide_done),
      .quotient(inverse)
  );

  // sequence
  always_ff @(posedge clk) begin
    unique case (state_q)
      IDLE: if (start) state_q <= WRITTEN ? EXPONENT : MAXIMUM;
      MAXIMUM: if (s1_valid_q && s1_last_q) state_q <= EXPONENT;
      EXPONENT: state_q <= SQUARES;
      SQUARES: if (s3_valid_q && s3_last_q) state_q <= EPSILON;
      EPSILON: state_q <= NORMALISE;
      NORMALISE: state_q <= ROOT_START;
      ROOT_START: state_q <= ROOT;
      ROOT: if (root_done) state_q <= DIVIDE_START;
      DIVIDE_START: state_q <= DIVIDE;
      DIVIDE: if (divide_done) state_q <= SCALE;
      SCALE: if (done) state_q <= IDLE;
      default: state_q <= IDLE;
    endcase
    if (pass) begin
      if (issue) word_q <= word_q + 15'd1;
    end else word_q <= '0;
    if (timer_q != '0) timer_q <= timer_q - TIMER_BITS'(1);
    if (start) begin
      words_q <= words;
      tail_q <= size[LANE_BITS-1:0] == '0 ? (LANE_BITS + 1)'(LANES) : {1'b0, size[LANE_BITS-1:0]};
      residual_base_q <= residual_base;
      gain_base_q <= gain_base;
      output_base_q <= output_base;
      timer_q <= (WRITTEN ? '0 : TIMER_BITS'(words)) + (TIMER_BITS'(words) << 1) + TIMER_BITS'(LATENCY - 1);
    end
    if (cfg_valid) begin
      if (cfg_address) output_shift_q <= cfg_data[5:0];
      else epsilon_q <= cfg_data[61:0];
    end
    s1_valid_q <= issue;
    s2_valid_q <= s1_valid_q && state_q != MAXIMUM;  // the maximum needs no more stages
    s3_valid_q <= s2_valid_q;
    s4_valid_q <= s3_valid_q;
    s1_last_q <= issue && issue_last;
    s2_last_q <= s1_last_q;
    s3_last_q <= s2_last_q;
    if (rst) begin
      state_q <= IDLE;
      timer_q <= '0;
      {s1_valid_q, s2_valid_q, s3_valid_q, s4_valid_q} <= '0;
      {s1_last_q, s2_last_q, s3_last_q} <= '0;
    end
  end

  // maximum and squares
  always_ff @(posedge clk) begin
    if (start) begin
      magnitudes_q <= WRITTEN ? magnitudes : '0;
      sum_q <= '0;
    end
    if (state_q == MAXIMUM && s1_valid_q) begin
      automatic logic [31:0] joined = magnitudes_q;
      for (int unsigned i = 0; i < LANES; ++i) joined |= r[i] < 0 ? 32'(-r[i]) : 32'(r[i]);
      magnitudes_q <= joined;
    end
    if (state_q == EXPONENT) begin
      automatic logic [5:0] length = bit_length(62'(magnitudes_q));
      exponent_q <= length > 6'd15 ? 5'(length - 6'd15) : '0;
    end
    if (state_q == SQUARES && s1_valid_q) begin
      for (int unsigned i = 0; i < LANES; ++i) shifted_q[i] <= 17'(round_shift(64'(r[i]), 6'(exponent_q)));
    end
    if (state_q == SQUARES && s2_valid_q) begin
      for (int unsigned i = 0; i < LANES; ++i) square_q[i] <= 32'(34'(shifted_q[i]) * 34'(shifted_q[i]));
    end
    if (state_q == SQUARES && s3_valid_q) begin
      automatic logic [61:0] sum = sum_q;
      for (int unsigned i = 0; i < LANES; ++i) sum += 62'(square_q[i]);
      sum_q <= sum;
    end
    if (state_q == EPSILON) sum_q <= with_epsilon == '0 ? 62'd1 : with_epsilon;
    if (state_q == NORMALISE) half_q <= 5'((6'd62 - bit_length(sum_q)) >> 1);
  end

  // scaling
  assign write_address = output_base_q + output_word_q;

  always_ff @(posedge clk) begin
    write_enable <= state_q == SCALE && s4_valid_q;
    if (state_q == SCALE) begin
      if (s1_valid_q) begin
        for (int unsigned i = 0; i < LANES; ++i) begin
          scaled_q[i] <= 49'(r[i]) * 49'(signed'({1'b0, inverse}));
          gain1_q[i] <= signed'(gain_data[i]);
        end
      end
      if (s2_valid_q) begin
        for (int unsigned i = 0; i < LANES; ++i) begin
          normal_q[i] <= 26'(round_shift(64'(scaled_q[i]) <<< 8, scale_shift));
          gain2_q[i] <= gain1_q[i];
        end
      end
      if (s3_valid_q) begin
        for (int unsigned i = 0; i < LANES; ++i) product_q[i] <= 58'(normal_q[i]) * 58'(gain2_q[i]);
      end
      if (s4_valid_q) begin
        for (int unsigned i = 0; i < LANES; ++i) write_data[i] <= saturate(round_shift(64'(product_q[i]), output_shift_q));
      end
    end
    if (start) output_word_q <= '0;
    else if (write_enable) output_word_q <= output_word_q + ADDRESS_BITS'(1);
    if (rst) write_enable <= 1'b0;
  end

  always_ff @(posedge clk) begin
    if (start) begin
      count_elements <= count_elements + 48'(size);
      count_words_read <= count_words_read + (48'(size) << 2) - (WRITTEN ? 48'(size) : '0);
      count_words_written <= count_words_written + 48'(size);
    end
    if (state_q == ROOT_START) count_square_roots <= count_square_roots + 48'd1;
    if (state_q == DIVIDE_START) count_divisions <= count_divisions + 48'd1;
    if (rst) {count_elements, count_square_roots, count_divisions, count_words_read, count_words_written} <= '0;
  end

  if (LATENCY < 63) begin : g_latency
    $error("NORM_LATENCY must be at least 63");
  end
  if (LANES != 1 << LANE_BITS || LANES < 2) begin : g_lanes
    $error("VECTOR_LANES must be a power of two, at least 2");
  end

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> timer_q <= TIMER_BITS'(1) && size != '0)
  else $error("start_when_idle: a norm is under way, or the vector is empty");
  sum_fits : assert property (@(posedge clk) disable iff (rst) state_q == EPSILON |-> with_epsilon >= sum_q)
  else $error("sum_fits: the sum of squares and epsilon exceeds 62 bits");
  for (genvar i = 0; i < LANES; ++i) begin : g_assert
    normal_fits : assert property (@(posedge clk) disable iff (rst) state_q == SCALE && s2_valid_q |->
                                   round_shift(64'(scaled_q[i]) <<< 8, scale_shift) == 64'(26'(round_shift(64'(scaled_q[i]) <<< 8, scale_shift))))
    else $error("normal_fits: u of lane %0d exceeds 26 bits", i);
  end
`endif
endmodule

`default_nettype wire
