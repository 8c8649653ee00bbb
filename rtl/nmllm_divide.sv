// Floor of dividend / divisor, one bit of the quotient per cycle (restoring).
// Command: takes QUOTIENT_BITS + 1 cycles; `quotient` holds the result from the cycle after `done` until the next start.
// The quotient must fit: dividend < divisor * 2^QUOTIENT_BITS.
`default_nettype none

module nmllm_divide #(
    parameter int unsigned DIVISOR_BITS  = 31,
    parameter int unsigned QUOTIENT_BITS = 17
) (
    input  logic                                  clk,
    input  logic                                  rst,
    input  logic                                  start,
    input  logic [DIVISOR_BITS+QUOTIENT_BITS-1:0] dividend,
    input  logic [              DIVISOR_BITS-1:0] divisor,
    output logic                                  done,
    output logic [             QUOTIENT_BITS-1:0] quotient
);
  localparam int unsigned STEP_BITS = $clog2(QUOTIENT_BITS + 1);

  logic [DIVISOR_BITS-1:0] divisor_q, remainder_q;
  logic [QUOTIENT_BITS-1:0] rest_q;
  logic [STEP_BITS-1:0] steps_q;
  logic [DIVISOR_BITS:0] widened;
  logic fits;

  assign widened = {remainder_q, rest_q[QUOTIENT_BITS-1]};
  assign fits = widened >= {1'b0, divisor_q};
  assign done = steps_q == STEP_BITS'(1);

  always_ff @(posedge clk) begin
    if (start) begin
      {remainder_q, rest_q} <= dividend;
      divisor_q <= divisor;
      quotient <= '0;
      steps_q <= STEP_BITS'(QUOTIENT_BITS);
    end else if (steps_q != '0) begin
      remainder_q <= DIVISOR_BITS'(fits ? widened - {1'b0, divisor_q} : widened);
      rest_q <= rest_q << 1;
      quotient <= {quotient[QUOTIENT_BITS-2:0], fits};
      steps_q <= steps_q - STEP_BITS'(1);
    end
    if (rst) steps_q <= '0;
  end

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> steps_q == '0)
  else $error("start_when_idle: a division is under way");
  quotient_fits : assert property (@(posedge clk) disable iff (rst)
                                   start |-> dividend[DIVISOR_BITS+QUOTIENT_BITS-1:QUOTIENT_BITS] < divisor)
  else $error("quotient_fits: %0d / %0d needs more than %0d bits", dividend, divisor, QUOTIENT_BITS);
`endif
endmodule

`default_nettype wire
