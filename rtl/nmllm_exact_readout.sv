// Exact readout of a synapse tile: read scheduler and crossbar macros, converted read by read.
//
//   write_...     weights of the macros: address and data of unit 3 of nmllm_synapse_tile
//   start, ...    a phase, see nmllm_axon_memory; `take`: another one can start in the next cycle
//   add, ...      converted values `terms` of a slot, for nmllm_accumulators; `empty_phase`: of a phase without events nothing comes
//   pick, busy    for the counters, as of nmllm_read_scheduler
`default_nettype none

module nmllm_exact_readout
  import nmllm_pkg::*;
#(
    parameter  bit          DIGITAL     = 1'b0,
    localparam int unsigned CONVERTERS  = (COLUMNS + COLUMN_MUX - 1) / COLUMN_MUX,
    localparam int unsigned SLOT_BITS   = COLUMN_MUX > 1 ? $clog2(COLUMN_MUX) : 1,
    localparam int unsigned BLOCK_BITS  = ROW_BLOCKS > 1 ? $clog2(ROW_BLOCKS) : 1,
    localparam int unsigned COLUMN_BITS = $clog2(COLUMNS + 1),
    localparam int unsigned COUNT_BITS  = $clog2(ACTIVE_ROWS + 1)
) (
    input  logic                             clk,
    input  logic                             rst,
    input  logic                             write_weights,
    input  logic        [              23:0] write_address,
    input  logic        [              63:0] write_data,
    input  logic        [    BLOCK_BITS-1:0] group_row_block[       ROW_BLOCKS],
    input  logic        [   COLUMN_BITS-1:0] group_columns  [       ROW_BLOCKS],
    input  logic                             start,
    input  logic        [   TILE_INPUTS-1:0] driven,
    input  logic        [   TILE_INPUTS-1:0] negative,
    input  logic                             first,
    output logic                             take,
    output logic                             add,
    output logic                             add_first,
    output logic                             add_clear,
    output logic        [     SLOT_BITS-1:0] add_slot,
    output logic signed [CONVERTER_BITS-1:0] terms          [ROW_BLOCKS*SLICES][CONVERTERS],
    output logic                             empty_phase,
    output logic                             pick,
    output logic        [    COUNT_BITS-1:0] pick_counts    [       ROW_BLOCKS],
    output logic                             busy
);
  localparam int unsigned ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1;
  localparam int unsigned WORD_BITS = COLUMNS > 8 ? $clog2((COLUMNS + 7) / 8) : 1;

  logic read, read_first, read_clear;
  logic [SLOT_BITS-1:0] read_slot;
  logic [ROWS-1:0] read_driven[ROW_BLOCKS], read_negative[ROW_BLOCKS];

  nmllm_read_scheduler u_scheduler (
      .clk,
      .rst,
      .start,
      .driven,
      .negative,
      .first,
      .take,
      .read,
      .read_first,
      .read_clear,
      .read_slot,
      .read_driven,
      .read_negative,
      .empty_phase,
      .pick,
      .pick_counts,
      .busy
  );

  for (genvar g = 0; g < ROW_BLOCKS; g++) begin : g_groups
    logic [ROWS-1:0] group_driven, group_negative;
    assign group_driven   = read_driven[group_row_block[g]];
    assign group_negative = read_negative[group_row_block[g]];
    for (genvar s = 0; s < SLICES; s++) begin : g_slices
      nmllm_crossbar #(
          .SLICE  (s),
          .DIGITAL(DIGITAL)
      ) u_crossbar (
          .clk,
          .write_enable(write_weights && write_address >> (ROW_BITS + WORD_BITS) == 24'(g)),
          .write_row(write_address[WORD_BITS+:ROW_BITS]),
          .write_word(write_address[WORD_BITS-1:0]),
          .write_data,
          .read(read && group_columns[g] != 0),
          .slot(read_slot),
          .driven(group_driven),
          .negative(group_negative),
          .converted(terms[g*SLICES+s])
      );
    end
  end

  always_ff @(posedge clk) begin
    add <= read;
    add_first <= read_first;
    add_clear <= read_clear;
    add_slot <= read_slot;
    if (rst) add <= 1'b0;
  end
endmodule

`default_nettype wire
