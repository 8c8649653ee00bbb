// Residual addition of one vector: residual = sat_32(residual + values), in place (numerics.md, Decoder).
//
// Command: `start` with `size` (N) and the addresses of the first words; takes P(N) + LATENCY cycles, of which 3 are needed beyond P(N).
// Lanes of the last word beyond N keep what the residual memory holds.
// Counters: elements (N), words of 32 bits read (2 N) and written (N).
`default_nettype none

module nmllm_add #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned LATENCY = nmllm_pkg::VECTOR_LATENCY,
    parameter int unsigned ADDRESS_BITS = $clog2(nmllm_pkg::VECTOR_MEMORY_BYTES / 4 / LANES)
) (
    input  logic                           clk,
    input  logic                           rst,
    // command
    input  logic                           start,
    input  logic        [            14:0] size,
    input  logic        [ADDRESS_BITS-1:0] residual_base,
    input  logic        [ADDRESS_BITS-1:0] operand_base,
    output logic                           done,
    // memories
    output logic                           read_enable,
    output logic        [ADDRESS_BITS-1:0] residual_address,
    input  logic [LANES-1:0][        31:0] residual_data,
    output logic        [ADDRESS_BITS-1:0] operand_address,
    input  logic [LANES-1:0][        31:0] operand_data,
    output logic                           write_enable,
    output logic        [ADDRESS_BITS-1:0] write_address,
    output logic [LANES-1:0][        31:0] write_data,
    // counters
    output logic        [            47:0] count_elements,
    output logic        [            47:0] count_words_read,
    output logic        [            47:0] count_words_written
);
  /* verilator no_inline_module */  // one C++ function for all instances
  localparam int unsigned LANE_BITS = $clog2(LANES);
  localparam int unsigned TIMER_BITS = 16 + $clog2(LATENCY);

  logic [14:0] left_q;  // words to issue
  logic [LANE_BITS:0] tail_q;  // valid lanes of the last word
  logic [TIMER_BITS-1:0] timer_q;
  logic [ADDRESS_BITS-1:0] residual_address_q, operand_address_q, write_address_q;
  logic s1_valid_q, s1_last_q;
  logic [14:0] words;

  assign words = 15'((32'(size) + LANES - 1) >> LANE_BITS);
  assign read_enable = left_q != '0;
  assign residual_address = residual_address_q;
  assign operand_address = operand_address_q;
  assign write_address = write_address_q;
  assign done = timer_q == TIMER_BITS'(1);

  function automatic logic [31:0] sum_saturated(input logic signed [31:0] a, input logic signed [31:0] b);
    automatic logic signed [32:0] sum = 33'(a) + 33'(b);
    if (sum[32] == sum[31]) sum_saturated = sum[31:0];
    else sum_saturated = sum[32] ? 32'h8000_0000 : 32'h7fff_ffff;
  endfunction

  always_ff @(posedge clk) begin
    if (timer_q != '0) timer_q <= timer_q - TIMER_BITS'(1);
    if (read_enable) begin
      left_q <= left_q - 15'd1;
      residual_address_q <= residual_address_q + ADDRESS_BITS'(1);
      operand_address_q <= operand_address_q + ADDRESS_BITS'(1);
    end
    if (write_enable) write_address_q <= write_address_q + ADDRESS_BITS'(1);
    s1_valid_q <= read_enable;
    s1_last_q <= left_q == 15'd1;
    write_enable <= s1_valid_q;
    if (s1_valid_q) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        if (s1_last_q && tail_q <= (LANE_BITS + 1)'(i)) write_data[i] <= residual_data[i];
        else write_data[i] <= sum_saturated(residual_data[i], operand_data[i]);
      end
    end
    if (start) begin
      left_q <= words;
      tail_q <= size[LANE_BITS-1:0] == '0 ? (LANE_BITS + 1)'(LANES) : {1'b0, size[LANE_BITS-1:0]};
      timer_q <= TIMER_BITS'(words) + TIMER_BITS'(LATENCY - 1);
      residual_address_q <= residual_base;
      write_address_q <= residual_base;
      operand_address_q <= operand_base;
      count_elements <= count_elements + 48'(size);
      count_words_read <= count_words_read + (48'(size) << 1);
      count_words_written <= count_words_written + 48'(size);
    end
    if (rst) begin
      {left_q, timer_q, s1_valid_q, s1_last_q, write_enable} <= '0;
      {count_elements, count_words_read, count_words_written} <= '0;
    end
  end

  if (LATENCY < 3) begin : g_latency
    $error("VECTOR_LATENCY must be at least 3 for the residual addition");
  end
  if (LANES != 1 << LANE_BITS || LANES < 2) begin : g_lanes
    $error("VECTOR_LANES must be a power of two, at least 2");
  end

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> timer_q <= TIMER_BITS'(1) && size != '0)
  else $error("start_when_idle: an addition is under way, or the vector is empty");
`endif
endmodule

`default_nettype wire
