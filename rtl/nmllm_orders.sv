// Orders of a vector tile to the tiles that have its work next, and how long they take to wake (timing.md, Power gating).
//
// The end of a `receive` begins a site: its synapse tiles are ordered awake, those of the site before are done. With the last site of the stage the
// vector tile of the next stage is ordered, if it has work with the token. Orders and `work_done` are registers: they leave in the cycle after that
// at which the work begins or ends.
//
//   take_...    a `receive` of a residual, or of values, ends at this cycle (nmllm_sequencer)
//   row_done    the program of a token ends: with this cycle if `pushed`, its last push, else at it
//   passed_on   the next stage works on the token in the stream, from the cycle after `take_residual` on
//   wake_left   cycles until the synapse tiles ordered last work
`default_nettype none

module nmllm_orders
  import nmllm_pkg::*;
(
    input  logic                 clk,
    input  logic                 rst,
    input  logic [          3:0] last_site,  // by its number in the stage
    input  logic                 take_residual,
    input  logic                 take_values,
    input  logic                 row_done,
    input  logic                 pushed,
    input  logic                 passed_on,
    output order_t               orders,
    output logic                 work_done,
    output logic [WAKE_BITS-1:0] wake_left
);
  logic begun_q, pushed_q;
  logic [3:0] number_q;  // of the latest `receive`

  assign orders = '{stage: begun_q && number_q == last_site && passed_on, site: begun_q, number: number_q};

  always_ff @(posedge clk) begin
    begun_q <= take_residual || take_values;
    if (take_residual) number_q <= '0;
    else if (take_values) number_q <= number_q + 4'd1;
    if (take_residual || take_values) wake_left <= WAKE_CYCLES == 0 ? '0 : WAKE_BITS'(WAKE_CYCLES - 1);
    else if (wake_left != '0) wake_left <= wake_left - WAKE_BITS'(1);
    pushed_q <= row_done && pushed;
    work_done <= pushed_q || (row_done && !pushed);
    if (rst) begin
      begun_q <= 1'b0;
      wake_left <= '0;
      pushed_q <= 1'b0;
      work_done <= 1'b0;
    end
  end
endmodule

`default_nettype wire
