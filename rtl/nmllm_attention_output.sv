// Outputs of one head: o = sat_32(rsh(sum * inverse, length + places)), a word of LANES elements per cycle (numerics.md, Attention).
// `start`; words are multiplied in the P(D) cycles after it and written one cycle later each, the last one with `done`.
// Paths of a cycle: product of 26 and 17 bits; rounding shift and saturation.
`default_nettype none

module nmllm_attention_output #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned HEAD_DIM = 64,
    parameter int unsigned SUM_BITS = 26,
    localparam int unsigned LANE_BITS = $clog2(LANES),
    localparam int unsigned DIM_BITS = $clog2(HEAD_DIM + 1)
) (
    input  logic                               clk,
    input  logic                               rst,
    // command
    input  logic                               start,
    input  logic        [DIM_BITS-1:0]         head_dim,
    input  logic        [        14:0]         first,  // element of the output vector at which the head begins
    input  logic        [        16:0]         inverse,
    input  logic        [         4:0]         length,  // b
    input  logic signed [         7:0]         places,  // 15 + f_qkv - value_base - f_attention
    output logic                               done,
    // sums
    output logic        [DIM_BITS-1:0]         read_element,
    input  logic        [   LANES-1:0][SUM_BITS-1:0] read_sums,
    // outputs
    output logic                               write_enable,
    output logic        [        14:0]         write_word,
    output logic        [   LANES-1:0]         write_mask,
    output logic        [   LANES-1:0][31:0]   write_data
);
  localparam int unsigned PRODUCT_BITS = SUM_BITS + 17;

  logic active_q, last_q;
  logic [DIM_BITS-1:0] word_q, words;
  logic last;
  logic signed [PRODUCT_BITS-1:0] product_q[LANES];
  logic signed [8:0] shift;

  function automatic logic [31:0] saturated(input logic signed [63:0] value);
    if (value > 64'sh7fff_ffff) saturated = 32'h7fff_ffff;
    else if (value < -64'sh8000_0000) saturated = 32'h8000_0000;
    else saturated = value[31:0];
  endfunction

  // A shift to the left saturates whatever it takes out of 32 bits, so the product may be saturated before it.
  function automatic logic [31:0] scaled(input logic signed [PRODUCT_BITS-1:0] product, input logic signed [8:0] right);
    automatic logic [5:0] down = right > 9'(PRODUCT_BITS + 2) ? 6'(PRODUCT_BITS + 2) : right[5:0];
    automatic logic [4:0] up = right < -9'sd31 ? 5'd31 : 5'(-right);
    if (right > 9'sd0) scaled = saturated((64'(product) + signed'(64'd1 << (down - 6'd1))) >>> down);
    else scaled = saturated(64'(signed'(saturated(64'(product)))) <<< up);
  endfunction

  assign words = 32'(head_dim) > LANES ? head_dim >> LANE_BITS : DIM_BITS'(1);
  assign last = word_q + DIM_BITS'(1) == words;
  assign read_element = DIM_BITS'({word_q, LANE_BITS'(0)}) - DIM_BITS'(first[LANE_BITS-1:0]);
  assign shift = 9'(places) + 9'(signed'({1'b0, length}));
  assign done = write_enable && last_q;

  // The multipliers stand still while the sums are being formed.
  logic [LANES-1:0][SUM_BITS-1:0] factor;
  assign factor = active_q ? read_sums : '0;

  always_ff @(posedge clk) begin
    if (start) active_q <= 1'b1;
    else if (last) active_q <= 1'b0;
    if (active_q) begin
      word_q <= last ? '0 : word_q + DIM_BITS'(1);
      for (int unsigned i = 0; i < LANES; ++i) begin
        product_q[i] <= PRODUCT_BITS'(signed'(factor[i])) * PRODUCT_BITS'(signed'({1'b0, inverse}));
        write_mask[i] <= 32'(first[LANE_BITS-1:0]) <= i && i < 32'(first[LANE_BITS-1:0]) + 32'(head_dim);
      end
      write_word <= (first >> LANE_BITS) + 15'(word_q);
      last_q <= last;
    end
    write_enable <= active_q;
    if (rst) begin
      {active_q, write_enable} <= '0;
      word_q <= '0;
    end
  end

  always_comb begin
    for (int unsigned i = 0; i < LANES; ++i) write_data[i] = write_enable ? scaled(product_q[i], shift) : '0;
  end
endmodule

`default_nettype wire
