// Flits that a tile pushes into its router (`inject`) and takes from it (`arrive`), for comparison with the simulator (docs/reference/rtl/verification.md, Lockstep).
// Words: {route, flag, tag}, payload low, payload high.
`default_nettype none

module nmllm_observe_router
  import nmllm_pkg::*;
(
    input logic clk,
    input logic rst,
    input logic inject,
    input flit_t inject_flit,
    input logic arrive,
    input flit_t arrive_flit
);
  import "DPI-C" function int nmllm_channel(input string path, input string signal_name);
  import "DPI-C" function void nmllm_observe(input int channel, input longint cycle, input int a, input int b, input int c, input int d);

  int injections, arrivals;
  initial begin
    injections = nmllm_channel($sformatf("%m"), "inject");
    arrivals = nmllm_channel($sformatf("%m"), "arrive");
  end

  always_ff @(posedge clk) begin
    if (inject && !rst)
      nmllm_observe(injections, $time, 32'({inject_flit.route, inject_flit.flag, inject_flit.tag}), inject_flit.payload[31:0],
                    inject_flit.payload[63:32], 0);
    if (arrive && !rst)
      nmllm_observe(arrivals, $time, 32'({arrive_flit.route, arrive_flit.flag, arrive_flit.tag}), arrive_flit.payload[31:0],
                    arrive_flit.payload[63:32], 0);
  end
endmodule

bind nmllm_router nmllm_observe_router observe (
    .clk, .rst, .inject(in_valid[4] && in_ready[4]), .inject_flit(in_flit[4]), .arrive(local_valid), .arrive_flit(local_flit));

`default_nettype wire
