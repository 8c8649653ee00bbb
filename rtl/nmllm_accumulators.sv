// Column accumulators of a synapse tile: slices and row blocks are added, phases combined by Horner's rule.
//
// The macros of a tile stand in ROW_BLOCKS groups, each of which gives TERMS terms of a column, one for each slice or one for all. The groups of a column block, one for each row block, are neighbours: a
// group passes its column sums on to the next one, and the last one of the block adds them to its accumulators (`group_first`,
// `group_last`; `group_columns` are the columns that hold weights, 0: not in use). The chain is the longest path: up to ROW_BLOCKS
// additions of about TERM_BITS + 8 bits.
//
//   add          the terms of `slot` are taken in this cycle; with `first` (first read of a phase) the accumulators are shifted
//                by `horner` before, with `clear` (first phase) they start from zero
//   empty_phase  a phase without events: all are shifted, or set to zero with `empty_clear`
//   read         a word of the group read_group, accumulators of the columns READ_LANES * read_word .. + READ_LANES - 1; in `values` from
//                the next cycle on, until the next read. A lane's selector sees the columns of its own only, and lets nothing through
//                while no word is read
`default_nettype none

module nmllm_accumulators
  import nmllm_pkg::*;
#(
    parameter  int unsigned READ_LANES  = 4,
    parameter  int unsigned TERMS       = SLICES,
    parameter  int unsigned TERM_BITS   = CONVERTER_BITS,
    localparam int unsigned CONVERTERS  = (COLUMNS + COLUMN_MUX - 1) / COLUMN_MUX,
    localparam int unsigned SLOT_BITS   = COLUMN_MUX > 1 ? $clog2(COLUMN_MUX) : 1,
    localparam int unsigned GROUP_BITS  = $clog2(ROW_BLOCKS + 1),
    localparam int unsigned COLUMN_BITS = $clog2(COLUMNS + 1),
    localparam int unsigned WORDS       = COLUMNS / READ_LANES,
    localparam int unsigned WORD_BITS   = WORDS > 1 ? $clog2(WORDS) : 1
) (
    input  logic                               clk,
    input  logic        [     COLUMN_BITS-1:0] group_columns[ROW_BLOCKS],
    input  logic        [      ROW_BLOCKS-1:0] group_first,
    input  logic        [      ROW_BLOCKS-1:0] group_last,
    input  logic                               horner,
    input  logic                               add,
    input  logic                               first,
    input  logic                               clear,
    input  logic        [       SLOT_BITS-1:0] slot,
    input  logic signed [       TERM_BITS-1:0] terms        [ROW_BLOCKS*TERMS][CONVERTERS],
    input  logic                               empty_phase,
    input  logic                               empty_clear,
    input  logic                               read,
    input  logic        [      GROUP_BITS-1:0] read_group,
    input  logic        [       WORD_BITS-1:0] read_word,
    output logic signed [ACCUMULATOR_BITS-1:0] values       [READ_LANES]
);
  /* verilator no_inline_module */  // one C++ function for all instances
  logic signed [ACCUMULATOR_BITS-1:0] accumulators[ROW_BLOCKS*COLUMNS];
  logic signed [ACCUMULATOR_BITS-1:0] sums[CONVERTERS], selected[READ_LANES];

  // verilator lint_off BLKSEQ
  // The arrays are used in this block only, the accumulators read before they are written; assigned at once they simulate several
  // times as fast.
  always_ff @(posedge clk) begin
    // verilator unroll_disable
    for (int i = 0; i < READ_LANES; i++) selected[i] = '0;
    if (read) begin
      // verilator unroll_disable
      for (int n = 0; n < ROW_BLOCKS * WORDS; n++) begin
        if (n == int'(read_group) * WORDS + int'(read_word)) begin
          // verilator unroll_disable
          for (int i = 0; i < READ_LANES; i++) selected[i] = selected[i] | accumulators[n*READ_LANES+i];
        end
      end
      values <= selected;
    end
    // verilator unroll_disable
    for (int l = 0; l < CONVERTERS; l++) sums[l] = '0;
    if (add) begin
      // verilator unroll_disable
      for (int g = 0; g < ROW_BLOCKS; g++) begin
        if (group_columns[g] != 0) begin
          if (group_first[g]) begin
            // verilator unroll_disable
            for (int l = 0; l < CONVERTERS; l++) sums[l] = '0;
          end
          // verilator unroll_disable
          for (int s = 0; s < TERMS; s++) begin
            // verilator unroll_disable
            for (int l = 0; l < CONVERTERS; l++) sums[l] = sums[l] + (ACCUMULATOR_BITS'(terms[g*TERMS+s][l]) <<< (CELL_BITS * s));
          end
          if (group_last[g]) begin
            // verilator unroll_disable
            for (int l = 0; l < CONVERTERS; l++) begin
              automatic int column = l * COLUMN_MUX + int'(slot);
              if (column < int'(group_columns[g])) begin
                automatic logic signed [ACCUMULATOR_BITS-1:0] previous = clear && first ? '0 : accumulators[g*COLUMNS+column];
                automatic logic signed [ACCUMULATOR_BITS-1:0] shifted = first ? previous <<< horner : previous;
                automatic logic signed [ACCUMULATOR_BITS-1:0] total = shifted + sums[l];
`ifndef SYNTHESIS
                no_overflow : assert ((shifted >>> (first & horner)) == previous && ((shifted < 0) != (sums[l] < 0) || (total < 0) == (shifted < 0)))
                else $error("no_overflow: accumulator %0d of group %0d leaves %0d bits", column, g, ACCUMULATOR_BITS);
`endif
                accumulators[g*COLUMNS+column] = total;
              end
            end
          end
        end
      end
    end else if (empty_phase) begin
      // verilator unroll_disable
      for (int n = 0; n < ROW_BLOCKS * COLUMNS; n++) accumulators[n] = empty_clear ? '0 : accumulators[n] <<< horner;
    end
  end
  // verilator lint_on BLKSEQ
endmodule

`default_nettype wire
