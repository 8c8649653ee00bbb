// Exact readout of a synapse tile: read scheduler and crossbar macros, converted read by read; with REREAD columns that saturate are read
// again in halves of the rows.
//
//   write_...     weights of the macros: address and data of unit 3 of nmllm_synapse_tile
//   start, ...    a phase, see nmllm_axon_memory; `take`: another one can start in the next cycle
//   add, ...      converted values `terms` of a slot, for nmllm_accumulators; `empty_phase`: of a phase without events nothing comes
//   pick, busy    for the counters, as of nmllm_read_scheduler; half_pick: a half is read by the macros `again`, `half_counts` rows in each
//                 row block; `repeats`: columns that a half's conversions in this cycle are of
`default_nettype none

module nmllm_exact_readout
  import nmllm_pkg::*;
#(
    parameter  bit          DIGITAL     = 1'b0,
    localparam int unsigned CONVERTERS  = (COLUMNS + COLUMN_MUX - 1) / COLUMN_MUX,
    localparam int unsigned SLOT_BITS   = COLUMN_MUX > 1 ? $clog2(COLUMN_MUX) : 1,
    localparam int unsigned BLOCK_BITS  = ROW_BLOCKS > 1 ? $clog2(ROW_BLOCKS) : 1,
    localparam int unsigned COLUMN_BITS = $clog2(COLUMNS + 1),
    localparam int unsigned COUNT_BITS  = $clog2(ACTIVE_ROWS + 1),
    localparam int unsigned TERM_BITS   = HIGH_BITS > CONVERTER_BITS ? HIGH_BITS : CONVERTER_BITS
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
    output logic signed [TERM_BITS-1:0] terms          [ROW_BLOCKS*SLICES][CONVERTERS],
    output logic                             empty_phase,
    output logic                             pick,
    output logic        [    COUNT_BITS-1:0] pick_counts    [       ROW_BLOCKS],
    output logic                             busy,
    output logic                             half_pick,
    output logic        [    COUNT_BITS-1:0] half_counts    [       ROW_BLOCKS],
    output logic        [        SLICES-1:0] again          [       ROW_BLOCKS],
    output logic        [              15:0] repeats
);
  localparam int unsigned READS = (ROWS + ACTIVE_ROWS - 1) / ACTIVE_ROWS;
  localparam int unsigned READ_BITS = READS > 1 ? $clog2(READS) : 1;
  localparam int unsigned DEPTH_BITS = $clog2((ACTIVE_ROWS > 1 ? $clog2(ACTIVE_ROWS) : 1) + 1);
  localparam int unsigned ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1;
  localparam int unsigned WORD_BITS = COLUMNS > 8 ? $clog2((COLUMNS + 7) / 8) : 1;

  logic read, read_first, read_clear;
  logic [SLOT_BITS-1:0] read_slot;
  logic [ROWS-1:0] read_driven[ROW_BLOCKS], read_negative[ROW_BLOCKS], half_driven[ROW_BLOCKS];
  logic half_next, half;
  // verilator lint_off UNUSEDSIGNAL
  logic over;  // this and the following with REREAD
  logic [DEPTH_BITS-1:0] level;
  logic [READ_BITS-1:0] number;
  logic [ROW_BLOCKS*SLICES-1:0] found;  // saturated columns, in each macro
  // verilator lint_on UNUSEDSIGNAL

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
      .busy,
      .over,
      .again(half_next),
      .half_pick,
      .half_driven
  );

  logic [15:0] macro_repeats[ROW_BLOCKS*SLICES];

  for (genvar g = 0; g < ROW_BLOCKS; g++) begin : g_groups
    logic used;
    logic [ROWS-1:0] group_driven, group_negative;
    assign used = group_columns[g] != 0;
    assign group_driven   = read_driven[group_row_block[g]];
    assign group_negative = read_negative[group_row_block[g]];
    for (genvar s = 0; s < SLICES; s++) begin : g_slices
      localparam int unsigned MACRO = g * SLICES + s, BITS = s == SLICES - 1 ? HIGH_BITS : CONVERTER_BITS;
      logic signed [BITS-1:0] converted[CONVERTERS];
      // verilator lint_off UNUSEDSIGNAL
      logic saturated[CONVERTERS];  // without REREAD never
      // verilator lint_on UNUSEDSIGNAL
      nmllm_crossbar #(
          .SLICE  (s),
          .BITS   (BITS),
          .DIGITAL(DIGITAL)
      ) u_crossbar (
          .clk,
          .write_enable(write_weights && write_address >> (ROW_BITS + WORD_BITS) == 24'(g)),
          .write_row(write_address[WORD_BITS+:ROW_BITS]),
          .write_word(write_address[WORD_BITS-1:0]),
          .write_data,
          .read(read && used && (!half || again[g][s])),
          .slot(read_slot),
          .driven(group_driven),
          .negative(group_negative),
          .converted,
          .saturated
      );

      if (REREAD != 0) begin : g_saturations
        logic wanted[CONVERTERS];
        nmllm_saturations u_saturations (
            .clk,
            .write(add && used),
            .slot(add_slot),
            .number,
            .half,
            .level,
            .saturated,
            .wanted,
            .found(found[MACRO]),
            .repeats(macro_repeats[MACRO]),
            .again(again[g][s])
        );
        always_comb begin
          // verilator unroll_disable
          for (int l = 0; l < CONVERTERS; l++) terms[MACRO][l] = wanted[l] ? TERM_BITS'(converted[l]) : '0;
        end
      end else begin : g_exact
        assign terms[MACRO] = converted;
        assign found[MACRO] = 1'b0;
        assign macro_repeats[MACRO] = '0;
        assign again[g][s] = 1'b0;
      end
    end
  end

  if (REREAD != 0) begin : g_rereads
    nmllm_reread_tree u_tree (
        .clk,
        .rst,
        .start,
        .driven,
        .add,
        .slot_end(add_slot == SLOT_BITS'(COLUMN_MUX - 1)),
        .found(found != '0),
        .over,
        .pick(half_pick),
        .again(half_next),
        .half,
        .level,
        .number,
        .half_driven,
        .half_counts
    );
  end else begin : g_once
    assign half_next = 1'b0;
    assign half = 1'b0;
    assign level = '0;
    assign number = '0;
    assign half_driven = '{default: '0};
    assign half_counts = '{default: '0};
  end

  always_comb begin
    repeats = '0;
    if (add && half) begin
      for (int m = 0; m < ROW_BLOCKS * SLICES; m++) repeats = repeats + macro_repeats[m];
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
