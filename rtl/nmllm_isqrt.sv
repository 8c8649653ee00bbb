// Floor of the square root, one bit of the root per cycle.
// Command: takes RADICAND_BITS / 2 + 1 cycles; `root` holds the result from the cycle after `done` until the next start.
`default_nettype none

module nmllm_isqrt #(
    parameter int unsigned RADICAND_BITS = 62,
    localparam int unsigned ROOT_BITS = RADICAND_BITS / 2
) (
    input  logic                     clk,
    input  logic                     rst,
    input  logic                     start,
    input  logic [RADICAND_BITS-1:0] radicand,
    output logic                     done,
    output logic [    ROOT_BITS-1:0] root
);
  localparam int unsigned STEP_BITS = $clog2(ROOT_BITS + 1);

  logic [RADICAND_BITS-1:0] rest_q;
  logic [ROOT_BITS-1:0] remainder_q;
  logic [STEP_BITS-1:0] steps_q;
  logic [ROOT_BITS+1:0] widened, trial;
  logic fits;

  // The remainder is at most twice the root, so that ROOT_BITS hold it before every step; after the last it is not needed.
  assign widened = {remainder_q, rest_q[RADICAND_BITS-1-:2]};
  assign trial = {root, 2'b01};
  assign fits = widened >= trial;
  assign done = steps_q == STEP_BITS'(1);

  always_ff @(posedge clk) begin
    if (start) begin
      rest_q <= radicand;
      remainder_q <= '0;
      root <= '0;
      steps_q <= STEP_BITS'(ROOT_BITS);
    end else if (steps_q != '0) begin
      rest_q <= rest_q << 2;
      remainder_q <= ROOT_BITS'(fits ? widened - trial : widened);
      root <= {root[ROOT_BITS-2:0], fits};
      steps_q <= steps_q - STEP_BITS'(1);
    end
    if (rst) steps_q <= '0;
  end

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> steps_q == '0)
  else $error("start_when_idle: a square root is under way");
`endif
endmodule

`default_nettype wire
