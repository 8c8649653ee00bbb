// The chip: a mesh of tiles with their routers, the host port and the DRAM port (docs/reference/rtl/index.md).
//
// Tile 0 is the host tile; the others are vector tiles or synapse tiles by their place along the snake (timing.md). USED has a bit for each tile:
// those that a program does not use keep their router only, which saves simulation time and changes nothing.
//
// Host port: cfg_* writes (while `rst` is high), tokens out, and reads of performance counters: `counter_value` is counter `counter_index` of
// tile `counter_tile`. Index 0 .. 31: as in the tile's module (synapse tile: ports in order; vector tile: `counters`; host: 0 DRAM bits); 32 flits
// injected by the tile, 33 .. 36 flits sent on the links N, E, S, W, 37 .. 40 cycles in which these refused, 41 and 42 cycles on and wake-ups of the tile,
// 43 and 44 of its router, if these are gated.
`default_nettype none

module nmllm_chip
  import nmllm_pkg::*;
#(
    parameter bit [TILES-1:0] USED = '1,
    parameter int unsigned HEAD_DIM = 16,
    parameter int unsigned GROUP = 4,
    parameter int unsigned SLOTS = 4,
    parameter int unsigned PHASES = MAX_PHASES,
    localparam int unsigned DRAM_VALUES = DRAM_BYTES_PER_CYCLE / 2
) (
    input  logic                             clk,
    input  logic                             rst,
    input  logic                             cfg_valid,
    input  logic [TILE_BITS-1:0]             cfg_tile,
    input  logic [          3:0]             cfg_unit,
    input  logic [         23:0]             cfg_address,
    input  logic [         63:0]             cfg_data,
    output logic                             dram_enable,
    output logic [         31:0]             dram_address,
    input  logic [DRAM_VALUES-1:0][15:0]     dram_data,
    output logic                             token_valid,
    output logic [         31:0]             token,
    output logic [SEQUENCE_BITS-1:0]         token_sequence,
    output logic                             done,
    input  logic [TILE_BITS-1:0]             counter_tile,
    input  logic [          5:0]             counter_index,
    output logic [         63:0]             counter_value,
    output logic [         63:0]             counts         [TILES][45]  // all of them, for the simulator
);
  function automatic bit is_vector(input int tile);
    automatic int y = tile / int'(MESH_WIDTH);
    automatic int x = tile % int'(MESH_WIDTH);
    automatic int place = y * int'(MESH_WIDTH) + (y % 2 == 0 ? x : int'(MESH_WIDTH) - 1 - x);
    is_vector = place % int'(VECTOR_PERIOD) == int'(VECTOR_OFFSET);
  endfunction

  logic link_valid[TILES][4];
  logic link_ready[TILES][4];
  flit_t link_flit[TILES][4];
  logic input_ready[TILES][5];
  // Nobody takes these on a chip whose tiles are always on.
  // verilator lint_off UNUSEDSIGNAL
  order_t orders[TILES];
  logic [TILES-1:0] ended, serving, released;  // of vector tiles; `ended` of the host: a token is there
  // verilator lint_on UNUSEDSIGNAL

  for (genvar t = 0; t < int'(TILES); t++) begin : g_tile
    localparam int X = t % int'(MESH_WIDTH);
    localparam int Y = t / int'(MESH_WIDTH);
    logic in_valid[5], entering[5], router_ready[5], router_asleep;
    flit_t in_flit[5];
    logic tile_valid, tile_ready, local_valid;
    logic taken_valid, offered_valid;  // on the tile's side of its power switch
    // verilator lint_off UNUSEDSIGNAL
    logic asleep;
    // verilator lint_on UNUSEDSIGNAL
    flit_t tile_flit, local_flit;
    logic [47:0] flits_injected, link_flits[4], link_refusals[4];
    logic cfg_here;
    assign cfg_here = cfg_valid && cfg_tile == TILE_BITS'(t);

    // A router's north output leads to the south input of the tile above, and so on; borders have no neighbour and no route leads there.
    if (Y > 0) begin : g_north
      assign in_valid[0] = link_valid[t-int'(MESH_WIDTH)][2];
      assign in_flit[0] = link_flit[t-int'(MESH_WIDTH)][2];
      assign link_ready[t][0] = input_ready[t-int'(MESH_WIDTH)][2];
    end else begin : g_no_north
      assign in_valid[0] = 1'b0;
      assign in_flit[0] = '0;
      assign link_ready[t][0] = 1'b0;
    end
    if (X < int'(MESH_WIDTH) - 1) begin : g_east
      assign in_valid[1] = link_valid[t+1][3];
      assign in_flit[1] = link_flit[t+1][3];
      assign link_ready[t][1] = input_ready[t+1][3];
    end else begin : g_no_east
      assign in_valid[1] = 1'b0;
      assign in_flit[1] = '0;
      assign link_ready[t][1] = 1'b0;
    end
    if (Y < int'(MESH_HEIGHT) - 1) begin : g_south
      assign in_valid[2] = link_valid[t+int'(MESH_WIDTH)][0];
      assign in_flit[2] = link_flit[t+int'(MESH_WIDTH)][0];
      assign link_ready[t][2] = input_ready[t+int'(MESH_WIDTH)][0];
    end else begin : g_no_south
      assign in_valid[2] = 1'b0;
      assign in_flit[2] = '0;
      assign link_ready[t][2] = 1'b0;
    end
    if (X > 0) begin : g_west
      assign in_valid[3] = link_valid[t-1][1];
      assign in_flit[3] = link_flit[t-1][1];
      assign link_ready[t][3] = input_ready[t-1][1];
    end else begin : g_no_west
      assign in_valid[3] = 1'b0;
      assign in_flit[3] = '0;
      assign link_ready[t][3] = 1'b0;
    end
    assign in_valid[4] = tile_valid;
    assign in_flit[4] = tile_flit;
    assign tile_ready = input_ready[t][4];
    for (genvar i = 0; i < 5; i++) begin : g_inputs
      assign entering[i] = in_valid[i] && !router_asleep;
      assign input_ready[t][i] = router_ready[i] && !router_asleep;
    end
    if (t == 0 || ROUTERS_GATED == 0) begin : g_router_always_on
      assign router_asleep = 1'b0;
      assign counts[t][43] = '0;
      assign counts[t][44] = '0;
    end else begin : g_router_gated
      logic [47:0] cycles_on, wakes;
      nmllm_router_switch router_power (
          .clk, .rst, .cfg_valid(cfg_here && cfg_unit == 4'd14), .cfg_address(cfg_address[3:0]), .cfg_data, .serving, .released,
          .asleep(router_asleep), .entering(in_valid[0] || in_valid[1] || in_valid[2] || in_valid[3] || in_valid[4]),
          .holding(link_valid[t][0] || link_valid[t][1] || link_valid[t][2] || link_valid[t][3] || local_valid), .cycles_on, .wakes);
      assign counts[t][43] = 64'(cycles_on);
      assign counts[t][44] = 64'(wakes);
    end

    nmllm_router router (
        .clk, .rst, .in_valid(entering), .in_ready(router_ready), .in_flit, .out_valid(link_valid[t]), .out_ready(link_ready[t]),
        .out_flit(link_flit[t]), .local_valid, .local_flit, .cfg_valid(cfg_here && cfg_unit == 4'd0), .cfg_address, .cfg_data,
        .flits_injected, .link_flits, .link_refusals);
    assign counts[t][32] = 64'(flits_injected);
    for (genvar link = 0; link < 4; link++) begin : g_link_counts
      assign counts[t][33+link] = 64'(link_flits[link]);
      assign counts[t][37+link] = 64'(link_refusals[link]);
    end

    if (t == 0 || !USED[t] || GATED == 0) begin : g_always_on
      assign taken_valid = local_valid;
      assign tile_valid = offered_valid;
      assign asleep = 1'b0;
      assign serving[t] = 1'b0;
      assign released[t] = 1'b0;
      assign counts[t][41] = '0;
      assign counts[t][42] = '0;
    end else begin : g_gated
      logic [TILE_BITS-1:0] waker;
      logic [47:0] cycles_on, wakes;
      nmllm_tile_switch #(.VECTOR(is_vector(t))) tile_power (
          .clk, .rst, .cfg_valid(cfg_here && cfg_unit == 4'd15), .cfg_address(cfg_address[1:0]), .cfg_data, .waker, .given(orders[waker]),
          .ended(ended[t]), .token_ended(ended[0]), .serving(serving[t]), .released(released[t]), .asleep, .arriving_valid(local_valid),
          .arriving_route(local_flit.route), .taken_valid, .offered_valid, .leaving_valid(tile_valid), .cycles_on, .wakes);
      assign counts[t][41] = 64'(cycles_on);
      assign counts[t][42] = 64'(wakes);
    end

    if (t == 0) begin : g_host
      nmllm_host_tile host (
          .clk, .rst, .cfg_valid(cfg_here), .cfg_unit, .cfg_address, .cfg_data, .in_valid(taken_valid), .in_flit(local_flit),
          .out_valid(offered_valid), .out_ready(tile_ready), .out_flit(tile_flit), .dram_enable, .dram_address, .dram_data, .token_valid, .token,
          .token_sequence, .done, .dram_bits_read(counts[t][0]), .orders(orders[t]), .token_ended(ended[t]));
      for (genvar i = 1; i < 32; i++) begin : g_none
        assign counts[t][i] = '0;
      end
    end else if (!USED[t]) begin : g_unused
      assign offered_valid = 1'b0;
      assign ended[t] = 1'b0;
      assign orders[t] = '0;
      assign tile_flit = '0;
      for (genvar i = 0; i < 32; i++) begin : g_none
        assign counts[t][i] = '0;
      end
    end else if (is_vector(t)) begin : g_vector
      logic [63:0] tile_counts[24];
      // verilator lint_off PINCONNECTEMPTY
      nmllm_vector_tile #(.HEAD_DIM(HEAD_DIM), .GROUP(GROUP), .SLOTS(SLOTS), .PHASES(PHASES)) tile (
          .clk, .rst, .cfg_valid(cfg_here), .cfg_unit, .cfg_address, .cfg_data, .in_valid(taken_valid), .in_flit(local_flit),
          .out_valid(offered_valid), .out_ready(tile_ready), .out_flit(tile_flit), .counters(tile_counts), .row_done(),
          .orders(orders[t]), .work_done(ended[t]), .asleep);
      // verilator lint_on PINCONNECTEMPTY
      for (genvar i = 0; i < 32; i++) begin : g_counts
        if (i < 24) begin : g_count
          assign counts[t][i] = tile_counts[i];
        end else begin : g_none
          assign counts[t][i] = '0;
        end
      end
    end else begin : g_synapse
      assign ended[t] = 1'b0;
      assign orders[t] = '0;
      // verilator lint_off PINCONNECTEMPTY
      nmllm_synapse_tile tile (
          .clk, .rst, .cfg_valid(cfg_here), .cfg_unit, .cfg_address, .cfg_data, .in_valid(taken_valid), .in_flit(local_flit),
          .out_valid(offered_valid), .out_ready(tile_ready), .out_flit(tile_flit), .events(counts[t][0]), .crossbar_reads(counts[t][1]),
          .row_drives(counts[t][2]), .cell_reads(counts[t][3]), .conversions(counts[t][4]),
          .repeated_conversions(counts[t][5]), .integrations(counts[t][6]), .halvings(counts[t][7]), .output_values(counts[t][8]),
          .gate_operations(counts[t][9]), .maximum_elements(counts[t][10]), .axon_bits_read(counts[t][11]),
          .output_parameter_bits_read(counts[t][12]), .slot_matches(counts[t][13]), .read_cycles(counts[t][14]), .asleep, .accumulator_valid(), .accumulator_values());
      // verilator lint_on PINCONNECTEMPTY
      for (genvar i = 15; i < 32; i++) begin : g_none
        assign counts[t][i] = '0;
      end
    end
  end

  assign counter_value = counts[counter_tile][counter_index];
endmodule

`default_nettype wire
