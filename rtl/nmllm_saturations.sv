// Saturated columns of a macro that is read again: those of the reads of a phase, and of the halves on the way to the present one.
//
//   write      results of the columns of `slot` are there, of read `number` of the phase or, with `half`, of its half at `level` of the tree
//   saturated  columns that saturated; only those that are `wanted` count
//   wanted     results that are taken: all of a read, of a half those of the columns that saturated in what it halves
//   found      one of the columns saturated
//   repeats    columns that are converted again, of a half
//   again      the macro takes part in the half: a column saturated in what it halves
`default_nettype none

module nmllm_saturations
  import nmllm_pkg::*;
#(
    localparam int unsigned CONVERTERS  = (COLUMNS + COLUMN_MUX - 1) / COLUMN_MUX,
    localparam int unsigned SLOT_BITS   = COLUMN_MUX > 1 ? $clog2(COLUMN_MUX) : 1,
    localparam int unsigned READS       = (ROWS + ACTIVE_ROWS - 1) / ACTIVE_ROWS,
    localparam int unsigned READ_BITS   = READS > 1 ? $clog2(READS) : 1,
    localparam int unsigned DEPTH      = ACTIVE_ROWS > 1 ? $clog2(ACTIVE_ROWS) : 1,
    localparam int unsigned DEPTH_BITS  = $clog2(DEPTH + 1)
) (
    input  logic                  clk,
    input  logic                  write,
    input  logic [ SLOT_BITS-1:0] slot,
    input  logic [ READ_BITS-1:0] number,
    input  logic                  half,
    input  logic [DEPTH_BITS-1:0] level,
    input  logic                  saturated[CONVERTERS],
    output logic                  wanted   [CONVERTERS],
    output logic                  found,
    output logic [          15:0] repeats,
    output logic                  again
);
  /* verilator no_inline_module */  // one C++ function for all instances
  // Words of reads, then of the levels 1 .. DEPTH - 1; a half of the last level is a single row, which never saturates.
  localparam int unsigned WORDS = READS + DEPTH - 1;

  logic [COLUMNS-1:0] words_q[WORDS];
  logic [COLUMNS-1:0] whole;  // what is halved

  assign whole = words_q[level == DEPTH_BITS'(1) ? 32'(number) : (READS - 2 + 32'(level)) % WORDS];
  assign again = half && whole != '0;

  always_comb begin
    found = 1'b0;
    repeats = '0;
    // verilator unroll_disable
    for (int l = 0; l < CONVERTERS; l++) wanted[l] = 1'b0;
    if (write) begin
      // verilator unroll_disable
      for (int l = 0; l < CONVERTERS; l++) begin
        if (l * COLUMN_MUX + int'(slot) < COLUMNS) begin
          wanted[l] = !half || whole[l*COLUMN_MUX+int'(slot)];
          found = found || (wanted[l] && saturated[l]);
          if (half && wanted[l]) repeats = repeats + 1'b1;
        end
      end
    end
  end

  always_ff @(posedge clk) begin
    if (write && (!half || level != DEPTH_BITS'(DEPTH))) begin
      // verilator unroll_disable
      for (int l = 0; l < CONVERTERS; l++) begin
        if (l * COLUMN_MUX + int'(slot) < COLUMNS) begin
          words_q[half ? READS - 1 + 32'(level) : 32'(number)][l*COLUMN_MUX+int'(slot)] <= wanted[l] && saturated[l];
        end
      end
    end
  end
endmodule

`default_nettype wire
