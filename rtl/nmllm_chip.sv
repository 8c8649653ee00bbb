// The chip: a mesh of tiles with their routers, the host port and the DRAM port (docs/reference/rtl/index.md).
//
// Tile 0 is the host tile; the others are vector tiles or synapse tiles by their place along the snake (timing.md). USED has a bit for each tile:
// those that a program does not use keep their router only, which saves simulation time and changes nothing.
//
// Host port: cfg_* writes (while `rst` is high), tokens out, and reads of performance counters: `counter_value` is counter `counter_index` of
// tile `counter_tile`. Index 0 .. 31: as in the tile's module (synapse tile: ports in order; vector tile: `counters`; host: 0 DRAM bits); 32 flits
// injected by the tile, 33 .. 36 flits sent on the links N, E, S, W, 37 .. 40 cycles in which these refused.
`default_nettype none

module nmllm_chip
  import nmllm_pkg::*;
#(
    parameter bit [TILES-1:0] USED = '1,
    parameter int unsigned HEAD_DIM = 16,
    parameter int unsigned GROUP = 4,
    parameter int unsigned SLOTS = 4,
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
    output logic                             done,
    input  logic [TILE_BITS-1:0]             counter_tile,
    input  logic [          5:0]             counter_index,
    output logic [         63:0]             counter_value,
    output logic [         63:0]             counts         [TILES][41]  // all of them, for the simulator
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

  for (genvar t = 0; t < int'(TILES); t++) begin : g_tile
    localparam int X = t % int'(MESH_WIDTH);
    localparam int Y = t / int'(MESH_WIDTH);
    logic in_valid[5];
    flit_t in_flit[5];
    logic tile_valid, tile_ready, local_valid;
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

    nmllm_router router (
        .clk, .rst, .in_valid, .in_ready(input_ready[t]), .in_flit, .out_valid(link_valid[t]), .out_ready(link_ready[t]),
        .out_flit(link_flit[t]), .local_valid, .local_flit, .cfg_valid(cfg_here && cfg_unit == 4'd0), .cfg_address, .cfg_data,
        .flits_injected, .link_flits, .link_refusals);
    assign counts[t][32] = 64'(flits_injected);
    for (genvar link = 0; link < 4; link++) begin : g_link_counts
      assign counts[t][33+link] = 64'(link_flits[link]);
      assign counts[t][37+link] = 64'(link_refusals[link]);
    end

    if (t == 0) begin : g_host
      nmllm_host_tile host (
          .clk, .rst, .cfg_valid(cfg_here), .cfg_unit, .cfg_address, .cfg_data, .in_valid(local_valid), .in_flit(local_flit),
          .out_valid(tile_valid), .out_ready(tile_ready), .out_flit(tile_flit), .dram_enable, .dram_address, .dram_data, .token_valid, .token,
          .done, .dram_bits_read(counts[t][0]));
      for (genvar i = 1; i < 32; i++) begin : g_none
        assign counts[t][i] = '0;
      end
    end else if (!USED[t]) begin : g_unused
      assign tile_valid = 1'b0;
      assign tile_flit = '0;
      for (genvar i = 0; i < 32; i++) begin : g_none
        assign counts[t][i] = '0;
      end
    end else if (is_vector(t)) begin : g_vector
      logic [63:0] tile_counts[24];
      // verilator lint_off PINCONNECTEMPTY
      nmllm_vector_tile #(.HEAD_DIM(HEAD_DIM), .GROUP(GROUP), .SLOTS(SLOTS)) tile (
          .clk, .rst, .cfg_valid(cfg_here), .cfg_unit, .cfg_address, .cfg_data, .in_valid(local_valid), .in_flit(local_flit),
          .out_valid(tile_valid), .out_ready(tile_ready), .out_flit(tile_flit), .counters(tile_counts), .row_done());
      // verilator lint_on PINCONNECTEMPTY
      for (genvar i = 0; i < 32; i++) begin : g_counts
        if (i < 24) begin : g_count
          assign counts[t][i] = tile_counts[i];
        end else begin : g_none
          assign counts[t][i] = '0;
        end
      end
    end else begin : g_synapse
      // verilator lint_off PINCONNECTEMPTY
      nmllm_synapse_tile tile (
          .clk, .rst, .cfg_valid(cfg_here), .cfg_unit, .cfg_address, .cfg_data, .in_valid(local_valid), .in_flit(local_flit),
          .out_valid(tile_valid), .out_ready(tile_ready), .out_flit(tile_flit), .events(counts[t][0]), .crossbar_reads(counts[t][1]),
          .row_drives(counts[t][2]), .cell_reads(counts[t][3]), .conversions(counts[t][4]), .output_values(counts[t][5]),
          .gate_operations(counts[t][6]), .maximum_elements(counts[t][7]), .axon_bits_read(counts[t][8]),
          .output_parameter_bits_read(counts[t][9]), .read_cycles(counts[t][10]), .accumulator_valid(), .accumulator_values());
      // verilator lint_on PINCONNECTEMPTY
      for (genvar i = 11; i < 32; i++) begin : g_none
        assign counts[t][i] = '0;
      end
    end
  end

  assign counter_value = counts[counter_tile][counter_index];
endmodule

`default_nettype wire
