// Power switch of a vector or synapse tile, told of the tile's work by orders and their ends (docs/reference/rtl/network.md).
//
// A tile is needed from an order until the end of the work that was ordered. One that sleeps is cut off: it is given credits only, and offers nothing.
// The routers of a stage are needed as its vector tile is, those of the head until its token is at the host.
//
// Register map (cfg_address), between runs: 0 tile that gives the orders   1 site of a synapse tile, by its number in the stage
//                                           2 route of credits to this tile (of a synapse tile an unused one)   3 head stage (0, 1)
`default_nettype none

module nmllm_tile_switch
  import nmllm_pkg::*;
#(
    parameter bit VECTOR = 1'b0  // of a vector tile
) (
    input  logic                  clk,
    input  logic                  rst,
    input  logic                  cfg_valid,
    // verilator lint_off UNUSEDSIGNAL
    input  logic [           1:0] cfg_address,
    input  logic [          63:0] cfg_data,
    // verilator lint_on UNUSEDSIGNAL
    output logic [ TILE_BITS-1:0] waker,
    // verilator lint_off UNUSEDSIGNAL
    input  order_t                given,  // by the waker; of its two kinds one is for this tile
    input  logic                  ended,  // at this cycle: a vector tile's program for a token
    input  logic                  token_ended,  // a token is at the host
    // verilator lint_on UNUSEDSIGNAL
    output logic                  serving,
    output logic                  released,
    output logic                  asleep,
    input  logic                  arriving_valid,
    input  logic [ROUTE_BITS-1:0] arriving_route,
    output logic                  taken_valid,
    input  logic                  offered_valid,
    output logic                  leaving_valid,
    output logic [          47:0] cycles_on,
    output logic [          47:0] wakes
);
  /* verilator no_inline_module */  // one C++ function for all instances
  typedef logic [2:0] orders_t;  // whose work has not ended

  logic [3:0] site_q;
  logic [ROUTE_BITS-1:0] credit_route_q;
  logic head_q;

  always_ff @(posedge clk) begin
    if (cfg_valid) begin
      unique case (cfg_address)
        2'd0: waker <= cfg_data[TILE_BITS-1:0];
        2'd1: site_q <= cfg_data[3:0];
        2'd2: credit_route_q <= cfg_data[ROUTE_BITS-1:0];
        2'd3: head_q <= cfg_data[0];
      endcase
    end
  end

  logic ordered, done;  // of this tile's work, at this cycle
  if (VECTOR) begin : g_vector
    orders_t served_q;
    wire unused = &{1'b0, site_q};
    assign ordered = given.stage;
    assign done = ended;
    assign released = head_q ? token_ended : ended;
    assign serving = ordered || served_q > orders_t'(released);
    always_ff @(posedge clk) served_q <= rst ? '0 : served_q + orders_t'(ordered) - orders_t'(released);
  end else begin : g_synapse
    wire unused = &{1'b0, head_q};
    assign ordered = given.site && given.number == site_q;
    assign done = given.site && given.number == site_q + 4'd1;
    assign released = 1'b0;
    assign serving = 1'b0;
  end

  orders_t orders_q;
  logic needed;
  assign needed = ordered || orders_q > orders_t'(done);
  always_ff @(posedge clk) orders_q <= rst ? '0 : orders_q + orders_t'(ordered) - orders_t'(done);

  nmllm_power_switch power (.clk, .rst, .needed, .done, .asleep, .cycles_on, .wakes);

  logic credit;
  assign credit = arriving_route == credit_route_q;
  assign taken_valid = arriving_valid && (!asleep || credit);
  assign leaving_valid = offered_valid && !asleep;

`ifndef SYNTHESIS
  awake : assert property (@(posedge clk) disable iff (rst) arriving_valid && asleep |-> credit)
  else $error("awake: a flit of route %0d arrives at a tile that is off or waking", arriving_route);
  silent : assert property (@(posedge clk) disable iff (rst) offered_valid |-> !asleep)
  else $error("silent: a tile that is off or waking offers a flit");
  ordered_before : assert property (@(posedge clk) disable iff (rst) done |-> orders_q != '0)
  else $error("ordered_before: the end of work that was not ordered");
  orders_fit : assert property (@(posedge clk) disable iff (rst) ordered && !done |-> orders_q != '1)
  else $error("orders_fit: more work is ordered than a tile can have before it");
`endif
endmodule

`default_nettype wire
