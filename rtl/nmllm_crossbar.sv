// Crossbar macro of one slice: ROWS x COLUMNS differential pairs of cells, row drivers and converters.
//
// A pair holds CELL_BITS bits of a weight's magnitude, from bit SLICE * CELL_BITS on: in its positive cell for a positive weight, in
// its negative cell otherwise; the other cell is off. In a cycle with `read` the driven rows put +1 or -1 on the pairs, and the
// converters take the columns c with c % COLUMN_MUX == slot: converter l serves the columns l * COLUMN_MUX .. + COLUMN_MUX - 1. Their
// results stand in `converted` from the next cycle on, 0 with `saturated` where BITS bits do not hold a sum. A read is the slots 0 .. COLUMN_MUX - 1 in turn, with the same
// rows driven, at most ACTIVE_ROWS. Without REREAD the bits hold every sum exactly.
//
// DIGITAL = 0 is the behavioural macro: the column sums form in slot 0 and are held while the converters work through them.
// DIGITAL = 1 is its digital twin, which can be synthesised: a memory of weights, and in each slot an adder tree for each converter. Its
// longest path is that tree: a column multiplexer, ROWS terms of CELL_BITS + 1 bits.
//
// Writing: eight weights of a row, columns 8 * write_word .. + 7, the first in the low byte; columns that do not exist are ignored.
`default_nettype none

module nmllm_crossbar
  import nmllm_pkg::*;
#(
    parameter  int unsigned SLICE      = 0,
    parameter  int unsigned BITS       = CONVERTER_BITS,
    parameter  bit          DIGITAL    = 1'b0,
    localparam int unsigned CONVERTERS = (COLUMNS + COLUMN_MUX - 1) / COLUMN_MUX,
    localparam int unsigned SLOT_BITS  = COLUMN_MUX > 1 ? $clog2(COLUMN_MUX) : 1,
    localparam int unsigned ROW_BITS   = ROWS > 1 ? $clog2(ROWS) : 1,
    localparam int unsigned WORD_BITS  = COLUMNS > 8 ? $clog2((COLUMNS + 7) / 8) : 1
) (
    input  logic                             clk,
    input  logic                             write_enable,
    input  logic        [      ROW_BITS-1:0] write_row,
    input  logic        [     WORD_BITS-1:0] write_word,
    input  logic        [              63:0] write_data,
    input  logic                             read,
    input  logic        [     SLOT_BITS-1:0] slot,
    input  logic        [          ROWS-1:0] driven,
    input  logic        [          ROWS-1:0] negative,
    output logic signed [    BITS-1:0] converted[CONVERTERS],
    output logic                       saturated[CONVERTERS]
);
  // verilator no_inline_module
  // Positive minus negative cell of a pair that holds this slice of a weight.
  function automatic logic signed [CELL_BITS:0] pair(input logic [7:0] weight);
    logic [6:0] magnitude;
    magnitude = weight[7] ? 7'(-weight) : weight[6:0];
    pair = signed'({1'b0, CELL_BITS'(magnitude >> (SLICE * CELL_BITS))});
    if (weight[7]) pair = -pair;
  endfunction

  if (DIGITAL) begin : gen_twin
    localparam int unsigned SUM_BITS = $clog2(2 * ACTIVE_ROWS * ((1 << CELL_BITS) - 1) + 1) > BITS ? $clog2(2 * ACTIVE_ROWS * ((1 << CELL_BITS) - 1) + 1) : BITS;
    localparam logic signed [SUM_BITS-1:0] LARGEST = SUM_BITS'((64'd1 << (BITS - 1)) - 1);
    logic [7:0] weights[ROWS*COLUMNS];

    always_ff @(posedge clk) begin
      if (write_enable) begin
        // verilator unroll_disable
        for (int i = 0; i < 8; i++) begin
          if (8 * int'(write_word) + i < COLUMNS) weights[int'(write_row)*COLUMNS+8*int'(write_word)+i] <= write_data[8*i+:8];
        end
      end
    end

    // verilator lint_off BLKSEQ
    // Sums are variables of this block.
    always_ff @(posedge clk) begin
      if (read) begin
        // verilator unroll_disable
        for (int l = 0; l < CONVERTERS; l++) begin
          automatic logic signed [SUM_BITS-1:0] sum = '0;
          // verilator unroll_disable
          for (int r = 0; r < ROWS; r++) begin
            automatic int column = l * COLUMN_MUX + int'(slot);
            automatic logic signed [CELL_BITS:0] term = column < COLUMNS && driven[r] ? pair(weights[r*COLUMNS+column]) : '0;
            sum = negative[r] ? sum - SUM_BITS'(term) : sum + SUM_BITS'(term);
          end
          saturated[l] <= sum > LARGEST || sum < -LARGEST - 1;
          converted[l] <= sum > LARGEST || sum < -LARGEST - 1 ? '0 : BITS'(sum);
        end
      end
    end
    // verilator lint_on BLKSEQ
  end else begin : gen_macro
    localparam int LARGEST = int'((64'd1 << (BITS - 1)) - 1);
    logic signed [7:0] cells[ROWS*COLUMNS];
    logic signed [15:0] held[COLUMNS];  // samples of the column sums

    always_ff @(posedge clk) begin
      if (write_enable) begin
        // verilator unroll_disable
        for (int i = 0; i < 8; i++) begin
          if (8 * int'(write_word) + i < COLUMNS) cells[int'(write_row)*COLUMNS+8*int'(write_word)+i] <= 8'(pair(write_data[8*i+:8]));
        end
      end
    end

    // verilator lint_off BLKSEQ
    // The samples are read in this block only, after they are taken; assigned at once they simulate several times as fast.
    always_ff @(posedge clk) begin
      if (read) begin
        if (slot == 0) begin
          // verilator unroll_disable
          for (int c = 0; c < COLUMNS; c++) held[c] = 16'sd0;
          // verilator unroll_disable
          for (int r = 0; r < ROWS; r++) begin
            if (driven[r]) begin
              if (negative[r]) begin
                // verilator unroll_disable
                for (int c = 0; c < COLUMNS; c++) held[c] = held[c] - 16'(cells[r*COLUMNS+c]);
              end else begin
                // verilator unroll_disable
                for (int c = 0; c < COLUMNS; c++) held[c] = held[c] + 16'(cells[r*COLUMNS+c]);
              end
            end
          end
`ifndef SYNTHESIS
          // verilator unroll_disable
          for (int c = 0; c < COLUMNS; c++) begin
            exact_conversion : assert (REREAD != 0 || (int'(held[c]) <= LARGEST && int'(held[c]) >= -LARGEST - 1))
            else $error("exact_conversion: column %0d sums to %0d, beyond %0d bits", c, held[c], BITS);
          end
`endif
        end
        // verilator unroll_disable
        for (int l = 0; l < CONVERTERS; l++) begin
          if (l * COLUMN_MUX + int'(slot) < COLUMNS) begin
            automatic int sum = int'(held[l*COLUMN_MUX+int'(slot)]);
            saturated[l] <= sum > LARGEST || sum < -LARGEST - 1;
            converted[l] <= sum > LARGEST || sum < -LARGEST - 1 ? '0 : BITS'(sum);
          end
        end
      end
    end
    // verilator lint_on BLKSEQ
  end

`ifndef SYNTHESIS
  active_rows : assert property (@(posedge clk) read && slot == 0 |-> $countones(driven) <= ACTIVE_ROWS)
  else $error("active_rows: %0d rows driven at once, at most %0d", $countones(driven), ACTIVE_ROWS);
`endif
endmodule

`default_nettype wire
