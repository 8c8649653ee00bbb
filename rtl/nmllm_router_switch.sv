// Power switch of a router: on while one of the stages whose routes enter it needs its routers (docs/reference/rtl/network.md).
//
//   serving, released   of the vector tiles, by tile (nmllm_tile_switch)
//   entering, holding   a flit enters, or is in, the router
//
// Register map (cfg_address), between runs: the vector tiles of these stages, 64 tiles in each data word.
`default_nettype none

module nmllm_router_switch
  import nmllm_pkg::*;
(
    input  logic             clk,
    input  logic             rst,
    input  logic             cfg_valid,
    input  logic [      3:0] cfg_address,
    // verilator lint_off UNUSEDSIGNAL
    input  logic [     63:0] cfg_data,
    // verilator lint_on UNUSEDSIGNAL
    input  logic [TILES-1:0] serving,
    input  logic [TILES-1:0] released,
    output logic             asleep,
    // verilator lint_off UNUSEDSIGNAL
    input  logic             entering,
    input  logic             holding,
    // verilator lint_on UNUSEDSIGNAL
    output logic [     47:0] cycles_on,
    output logic [     47:0] wakes
);
  /* verilator no_inline_module */  // one C++ function for all instances
  logic [TILES-1:0] stages_q;

  always_ff @(posedge clk) begin
    for (int unsigned t = 0; t < TILES; t++) if (cfg_valid && cfg_address == 4'(t / 64)) stages_q[t] <= cfg_data[t%64];
  end

  nmllm_power_switch power (
      .clk, .rst, .needed(|(serving & stages_q)), .done(|(released & stages_q)), .asleep, .cycles_on, .wakes);

`ifndef SYNTHESIS
  awake : assert property (@(posedge clk) disable iff (rst) entering |-> !asleep)
  else $error("awake: a flit enters a router that is off or waking");
  empty : assert property (@(posedge clk) disable iff (rst) holding |-> !asleep)
  else $error("empty: a router that is off or waking holds a flit");
`endif
endmodule

`default_nettype wire
