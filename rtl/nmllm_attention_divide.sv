// Reciprocal of the sum of probabilities: inverse = floor(2^(b + 15) / sum), b = bitlen(sum), in [2^15, 2^16] (numerics.md, Attention).
// Command: takes 7 cycles, three quotient bits each after the first, which normalises; results hold from the cycle after `done` until the next start.
// Path of a cycle: three comparisons and subtractions of 17 bits in a row.
`default_nettype none

module nmllm_attention_divide #(
    parameter int unsigned BITS = 16
) (
    input  logic                      clk,
    input  logic                      rst,
    input  logic                      start,
    input  logic [          BITS-1:0] sum,
    output logic                      done,
    output logic [              16:0] inverse,
    output logic [$clog2(BITS+1)-1:0] length  // b
);
  localparam int unsigned LENGTH_BITS = $clog2(BITS + 1);

  logic [BITS-1:0] divisor_q, remainder_q, remainder;
  logic [2:0] steps_q, digits;
  logic [LENGTH_BITS-1:0] sum_length;

  always_comb begin
    sum_length = '0;
    for (int unsigned i = 0; i < BITS; ++i) if (sum[i]) sum_length = LENGTH_BITS'(i + 1);
  end

  // 2^(b + 15) / sum = 2^(BITS + 15) / (sum << (BITS - b)); all bits of the dividend after the first are 0.
  always_comb begin
    remainder = remainder_q;
    for (int unsigned i = 0; i < 3; ++i) begin
      automatic logic [BITS:0] widened = {remainder, 1'b0};
      digits[2-i] = widened >= {1'b0, divisor_q};
      remainder = BITS'(digits[2-i] ? widened - {1'b0, divisor_q} : widened);
    end
  end

  assign done = steps_q == 3'd1;

  always_ff @(posedge clk) begin
    if (start) begin
      divisor_q <= sum << (LENGTH_BITS'(BITS) - sum_length);
      remainder_q <= BITS'(1) << (BITS - 3);
      length <= sum_length;
      steps_q <= 3'd6;
    end else if (steps_q != '0) begin
      remainder_q <= remainder;
      inverse <= {inverse[13:0], digits};
      steps_q <= steps_q - 3'd1;
    end
    if (rst) steps_q <= '0;
  end

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> steps_q == '0 && sum != '0)
  else $error("start_when_idle: a division is under way, or the sum is 0");
`endif
endmodule

`default_nettype wire
