// Performance counters of a synapse tile (timing.md, Counters), from what its units report in each cycle; zero with `rst`.
//
//   arriving_events  events of the flit that arrives; stored: a phase of the `inputs` is written to the axon memory
//   pick             rows are picked for a read or an integration, `pick_counts` in each row block
//   converting       the membranes of the row blocks `spiked` begin to be converted, by the groups `converted_groups` and after `train_halvings`
//                    (or decays, `halvings` counts either); repeats: columns that are converted again
//   matching         the inputs are compared with the number of a slot
//   half_pick        `half_counts` rows of each row block are read again by the macros `again` of each group
//   busy             a cycle of a phase
//   stage_count      columns that the output stage reads
//
// What a read does is summed over the groups of macros, each seeing its own macros, rows and columns.
`default_nettype none

module nmllm_synapse_counters
  import nmllm_pkg::*;
#(
    localparam int unsigned BLOCK_BITS  = ROW_BLOCKS > 1 ? $clog2(ROW_BLOCKS) : 1,
    localparam int unsigned COLUMN_BITS = $clog2(COLUMNS + 1),
    localparam int unsigned INPUT_BITS  = $clog2(TILE_INPUTS + 1),
    localparam int unsigned COUNT_BITS  = $clog2(ACTIVE_ROWS + 1),
    localparam int unsigned LANE_BITS   = $clog2(ARGMAX_LANES > 4 ? ARGMAX_LANES : 4)
) (
    input  logic                   clk,
    input  logic                   rst,
    input  logic [ BLOCK_BITS-1:0] group_row_block           [ROW_BLOCKS],
    input  logic [COLUMN_BITS-1:0] group_columns             [ROW_BLOCKS],
    input  logic [ INPUT_BITS-1:0] inputs,
    input  logic [            1:0] epilogue,
    input  logic                   has_bias,
    input  logic [            2:0] arriving_events,
    input  logic                   stored,
    input  logic                   pick,
    input  logic [ COUNT_BITS-1:0] pick_counts               [ROW_BLOCKS],
    input  logic                   converting,
    input  logic [ ROW_BLOCKS-1:0] spiked,
    input  logic [ ROW_BLOCKS-1:0] converted_groups,
    input  logic [            6:0] train_halvings,
    input  logic                   matching,
    input  logic [           15:0] repeats,
    input  logic                   half_pick,
    input  logic [ COUNT_BITS-1:0] half_counts               [ROW_BLOCKS],
    input  logic [     SLICES-1:0] again                     [ROW_BLOCKS],
    input  logic                   busy,
    input  logic [    LANE_BITS:0] stage_count,
    output logic [           63:0] events,
    output logic [           63:0] crossbar_reads,
    output logic [           63:0] row_drives,
    output logic [           63:0] cell_reads,
    output logic [           63:0] conversions,
    output logic [           63:0] repeated_conversions,
    output logic [           63:0] integrations,
    output logic [           63:0] halvings,
    output logic [           63:0] output_values,
    output logic [           63:0] gate_operations,
    output logic [           63:0] maximum_elements,
    output logic [           63:0] axon_bits_read,
    output logic [           63:0] output_parameter_bits_read,
    output logic [           63:0] slot_matches,
    output logic [           63:0] read_cycles
);
  logic [15:0] picked_macros, picked_rows, half_macros, half_rows;
  logic [31:0] half_cells, picked_cells, picked_columns, converted_columns, halved_columns;

  always_comb begin
    picked_macros = '0;
    picked_rows = '0;
    picked_cells = '0;
    picked_columns = '0;
    if (pick) begin
      for (int g = 0; g < ROW_BLOCKS; g++) begin
        if (group_columns[g] != 0 && pick_counts[group_row_block[g]] != 0) begin
          picked_macros = picked_macros + 16'(SLICES);
          picked_rows = picked_rows + 16'(SLICES) * 16'(pick_counts[group_row_block[g]]);
          picked_columns = picked_columns + SLICES * 32'(group_columns[g]);
          picked_cells = picked_cells + SLICES * 32'(group_columns[g]) * 32'(pick_counts[group_row_block[g]]);
        end
      end
    end
  end

  always_comb begin
    converted_columns = '0;
    halved_columns = '0;
    if (converting) begin
      for (int g = 0; g < ROW_BLOCKS; g++) begin
        if (converted_groups[g]) converted_columns = converted_columns + 32'(group_columns[g]);
        if (spiked[group_row_block[g]]) halved_columns = halved_columns + 32'(group_columns[g]);
      end
    end
  end

  always_comb begin
    half_macros = '0;
    half_rows = '0;
    half_cells = '0;
    if (half_pick) begin
      for (int g = 0; g < ROW_BLOCKS; g++) begin
        if (group_columns[g] != 0) begin
          half_macros = half_macros + 16'($countones(again[g]));
          half_rows = half_rows + 16'($countones(again[g])) * 16'(half_counts[group_row_block[g]]);
          half_cells = half_cells + 32'($countones(again[g])) * 32'(half_counts[group_row_block[g]]) * 32'(group_columns[g]);
        end
      end
    end
  end

  assign output_parameter_bits_read = output_values * (has_bias ? 64'd48 : 64'd16);
  assign gate_operations = epilogue == 2'd1 ? output_values >> 1 : '0;
  assign maximum_elements = epilogue == 2'd2 ? output_values : '0;

  always_ff @(posedge clk) begin
    events <= events + 64'(arriving_events);
    if (stored) axon_bits_read <= axon_bits_read + 64'(inputs) * (STEPS != 0 ? 64'(2 + STAMP_BITS) : 64'd2);
    if (matching) slot_matches <= slot_matches + 64'(inputs);
    if (pick) begin
      crossbar_reads <= crossbar_reads + 64'(picked_macros);
      row_drives <= row_drives + 64'(picked_rows);
      cell_reads <= cell_reads + 64'(picked_cells);
      if (MEMBRANE != 0) integrations <= integrations + 64'(picked_columns);
    end
    if (MEMBRANE != 0) begin
      conversions <= conversions + 64'(converted_columns) + 64'(repeats);
      repeated_conversions <= repeated_conversions + 64'(repeats);
      halvings <= halvings + SLICES * 64'(train_halvings) * 64'(halved_columns);
    end else begin
      if (pick) conversions <= conversions + 64'(picked_columns);
      if (half_pick) begin
        crossbar_reads <= crossbar_reads + 64'(half_macros);
        row_drives <= row_drives + 64'(half_rows);
        cell_reads <= cell_reads + 64'(half_cells);
      end
      if (repeats != '0) begin
        conversions <= conversions + 64'(repeats);
        repeated_conversions <= repeated_conversions + 64'(repeats);
      end
    end
    if (busy) read_cycles <= read_cycles + 1'b1;
    output_values <= output_values + 64'(stage_count);
    if (rst) begin
      events <= '0;
      axon_bits_read <= '0;
      crossbar_reads <= '0;
      row_drives <= '0;
      cell_reads <= '0;
      conversions <= '0;
      repeated_conversions <= '0;
      integrations <= '0;
      halvings <= '0;
      read_cycles <= '0;
      slot_matches <= '0;
      output_values <= '0;
    end
  end
endmodule

`default_nettype wire
