// Power switch of a tile or a router: off unless needed, and awake WAKE_CYCLES after it is needed again (timing.md, Power gating).
//
//   needed     in this cycle
//   done       work of a token has ended at this cycle
//   asleep     off or waking
//   counters   cycles on and times woken, up to the last `done`
`default_nettype none

module nmllm_power_switch
  import nmllm_pkg::*;
(
    input  logic        clk,
    input  logic        rst,
    input  logic        needed,
    input  logic        done,
    output logic        asleep,
    output logic [47:0] cycles_on,
    output logic [47:0] wakes
);
  logic needed_q, wake;
  logic [WAKE_BITS-1:0] waking, waking_q;  // cycles left
  assign wake = needed && !needed_q;
  assign waking = wake ? WAKE_BITS'(WAKE_CYCLES) : waking_q;
  assign asleep = !needed || waking != '0;

  logic [47:0] since_q;  // cycles on since `done`
  logic woken_q;  // since then
  always_ff @(posedge clk) begin
    needed_q <= needed;
    waking_q <= waking == '0 ? '0 : waking - WAKE_BITS'(1);
    since_q <= (done ? '0 : since_q) + 48'(needed);
    woken_q <= wake || (woken_q && !done);
    if (done) begin
      cycles_on <= cycles_on + since_q;
      wakes <= wakes + 48'(woken_q);
    end
    if (rst) begin
      {needed_q, waking_q, woken_q} <= '0;
      {since_q, cycles_on, wakes} <= '0;
    end
  end
endmodule

`default_nettype wire
