// Test bench: the routers of a whole mesh, linked, with what enters every FIFO and every tile.
//
//   inject_*  of every tile, into the local input of its router
//   pushed    [6 * tile + port]: a flit enters the FIFO of this port (N, E, S, W, local), port 5: the tile itself
//   values    low 32 bits of its payload, 0 where none enters
//   cfg_*     as in docs/reference/rtl/network.md, unit 0
`default_nettype none

module nmllm_mesh_tb
  import nmllm_pkg::*;
(
    input  logic                   clk,
    input  logic                   rst,
    input  logic [      TILES-1:0] inject_valid,
    output logic [      TILES-1:0] inject_ready,
    input  logic [ROUTE_BITS-1:0]  inject_route [TILES],
    input  logic [           31:0] inject_value [TILES],
    output logic                   pushed       [6*TILES],
    output logic [           31:0] values       [6*TILES],
    input  logic                   cfg_valid,
    input  logic [  TILE_BITS-1:0] cfg_tile,
    input  logic [           23:0] cfg_address,
    input  logic [           63:0] cfg_data,
    output logic [           47:0] flits,
    output logic [           47:0] hops,
    output logic [           47:0] refusals
);
  logic in_valid[TILES][5];
  logic in_ready[TILES][5];
  flit_t in_flit[TILES][5];
  logic out_valid[TILES][4];
  logic out_ready[TILES][4];
  flit_t out_flit[TILES][4];
  logic local_valid[TILES];
  flit_t local_flit[TILES];
  logic [47:0] flits_injected[TILES];
  logic [47:0] link_flits[TILES][4];
  logic [47:0] link_refusals[TILES][4];

  for (genvar t = 0; t < TILES; t++) begin : g_tile
    for (genvar p = 0; p < 4; p++) begin : g_link
      localparam bit EXISTS = p == 0 ? t >= MESH_WIDTH : p == 1 ? t % MESH_WIDTH != MESH_WIDTH - 1
                            : p == 2 ? t < TILES - MESH_WIDTH : t % MESH_WIDTH != 0;
      localparam int OTHER = !EXISTS ? t : p == 0 ? t - MESH_WIDTH : p == 1 ? t + 1 : p == 2 ? t + MESH_WIDTH : t - 1;
      assign in_valid[t][p] = EXISTS && out_valid[OTHER][(p+2)%4];
      assign in_flit[t][p] = out_flit[OTHER][(p+2)%4];
      assign out_ready[t][p] = EXISTS && in_ready[OTHER][(p+2)%4];
    end
    assign in_valid[t][4] = inject_valid[t];
    assign in_flit[t][4] = '{route: inject_route[t], flag: 1'b0, tag: '0, payload: {32'd0, inject_value[t]}};
    assign inject_ready[t] = in_ready[t][4];
    nmllm_router router (
        .clk,
        .rst,
        .in_valid(in_valid[t]),
        .in_ready(in_ready[t]),
        .in_flit(in_flit[t]),
        .out_valid(out_valid[t]),
        .out_ready(out_ready[t]),
        .out_flit(out_flit[t]),
        .local_valid(local_valid[t]),
        .local_flit(local_flit[t]),
        .cfg_valid(cfg_valid && cfg_tile == TILE_BITS'(t)),
        .cfg_address,
        .cfg_data,
        .flits_injected(flits_injected[t]),
        .link_flits(link_flits[t]),
        .link_refusals(link_refusals[t])
    );
  end

  always_comb begin
    flits = '0;
    hops = '0;
    refusals = '0;
    for (int t = 0; t < TILES; t++) begin
      for (int p = 0; p < 5; p++) begin
        pushed[6*t+p] = in_valid[t][p] && in_ready[t][p];
        values[6*t+p] = pushed[6*t+p] ? in_flit[t][p].payload[31:0] : '0;
      end
      pushed[6*t+5] = local_valid[t];
      values[6*t+5] = local_valid[t] ? local_flit[t].payload[31:0] : '0;
      flits += flits_injected[t];
      for (int p = 0; p < 4; p++) begin
        hops += link_flits[t][p];
        refusals += link_refusals[t][p];
      end
    end
  end
endmodule

`default_nettype wire
