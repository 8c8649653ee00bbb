// Macro of a group with membranes: ROWS x COLUMNS weights in SLICES pairs of cells each, a membrane for each slice and column, converters.
//
//   discharge  all membranes; where they decay, before the slot `place`
//   halve      the charge of all membranes; where they decay, from one slot to the next
//   integrate  the charge of the cells in the rows `driven`, at most ACTIVE_ROWS, +1 or -1 each; all columns at once
//   convert    the columns c with c % COLUMN_MUX == slot, converter l the column l * COLUMN_MUX + slot: its slices' charges meet in the
//              ratio 2^CELL_BITS : 1, and with those of the row blocks before, `charge_in`; together they are `charge_out` in this cycle. If
//              the converter is in `active`, that charge is rounded half up after `shift` halvings to CONVERTER_BITS bits: from the next
//              cycle on the result stands in `converted`, the nearer end where it did not fit, in `saturated` whether that is so; what is
//              not active keeps both
//
// Charge is an integer: what was halved t times before weighs 2^-t of what comes next, so instead of halving, what comes after t halvings
// counts 2^t times, and a conversion at `shift` = t + range places is one of that sum. Where membranes decay, what comes in a slot counts its level
// times, and a conversion after the last slot is one of that sum too.
//
// DIGITAL = 0 is the behavioural macro: levels of the cells, charges of the membranes, successive approximation. DIGITAL = 1 is its digital
// twin, which can be synthesised: a memory of weights and for each column an adder tree over the rows and a sum, whose shifted part rounds
// to the result. Its longest path is that tree.
//
// Writing: eight weights of a row, columns 8 * write_word .. + 7, the first in the low byte; columns that do not exist are ignored.
`default_nettype none

module nmllm_membrane_array
  import nmllm_pkg::*;
#(
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
    input  logic                             discharge,
    input  logic        [               5:0] place,
    input  logic                             halve,
    input  logic                             integrate,
    input  logic        [          ROWS-1:0] driven,
    input  logic        [          ROWS-1:0] negative,
    input  logic                             convert,
    input  logic        [     SLOT_BITS-1:0] slot,
    input  logic signed [ACCUMULATOR_BITS-1:0] charge_in [CONVERTERS],
    output logic signed [ACCUMULATOR_BITS-1:0] charge_out[CONVERTERS],
    input  logic                             active   [CONVERTERS],
    input  logic        [               5:0] shift    [CONVERTERS],
    output logic signed [CONVERTER_BITS-1:0] converted[CONVERTERS],
    output logic                             saturated[CONVERTERS]
);
  // verilator no_inline_module
  logic [5:0] halvings_q;  // or, where membranes decay, slot
  always_ff @(posedge clk) begin
    if (discharge) halvings_q <= place;
    else if (halve) halvings_q <= halvings_q + 1'b1;
  end

  if (DIGITAL) begin : g_twin
    localparam int unsigned SUM_BITS = 8 + $clog2(ACTIVE_ROWS + 1);
    localparam logic signed [ACCUMULATOR_BITS:0] LARGEST = (ACCUMULATOR_BITS + 1)'((64'd1 << (CONVERTER_BITS - 1)) - 1);

    logic signed [7:0] weights[ROWS*COLUMNS];
    logic signed [ACCUMULATOR_BITS-1:0] charge_q[COLUMNS];

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
      if (discharge) begin
        // verilator unroll_disable
        for (int c = 0; c < COLUMNS; c++) charge_q[c] <= '0;
      end else if (integrate) begin
        // verilator unroll_disable
        for (int c = 0; c < COLUMNS; c++) begin
          automatic logic signed [SUM_BITS-1:0] sum = '0;
          // verilator unroll_disable
          for (int r = 0; r < ROWS; r++) begin
            automatic logic signed [SUM_BITS-1:0] term = driven[r] ? SUM_BITS'(weights[r*COLUMNS+c]) : '0;
            sum = negative[r] ? sum - term : sum + term;
          end
          if (STEPS != 0) charge_q[c] <= charge_q[c] + ACCUMULATOR_BITS'(sum) * signed'(ACCUMULATOR_BITS'(LEVELS[halvings_q]));
          else charge_q[c] <= charge_q[c] + (ACCUMULATOR_BITS'(sum) <<< halvings_q);
        end
      end
      if (convert) begin
        // verilator unroll_disable
        for (int l = 0; l < CONVERTERS; l++) begin
          if (active[l] && l * COLUMN_MUX + int'(slot) < COLUMNS) begin
            automatic logic signed [ACCUMULATOR_BITS:0] charge = (ACCUMULATOR_BITS + 1)'(charge_out[l]);
            automatic logic signed [ACCUMULATOR_BITS:0] rounded = shift[l] == 0 ? charge : ((charge >>> (shift[l] - 1'b1)) + 1) >>> 1;
            converted[l] <= CONVERTER_BITS'(rounded > LARGEST ? LARGEST : rounded < -LARGEST - 1 ? -LARGEST - 1 : rounded);
            saturated[l] <= rounded > LARGEST || rounded < -LARGEST - 1;
          end
        end
      end
    end
    // verilator lint_on BLKSEQ

    always_comb begin
      // verilator unroll_disable
      for (int l = 0; l < CONVERTERS; l++) begin
        charge_out[l] = '0;
        if (convert && l * COLUMN_MUX + int'(slot) < COLUMNS) charge_out[l] = charge_in[l] + charge_q[l*COLUMN_MUX+int'(slot)];
      end
    end
  end else begin : g_macro
    logic signed [7:0] cells[SLICES*ROWS*COLUMNS];
    int charge[SLICES*COLUMNS];
    int sums[COLUMNS];

    // Positive minus negative cell of the pair that holds a slice of a weight.
    function automatic logic signed [7:0] pair(input logic [7:0] weight, input int slice);
      logic [6:0] magnitude;
      magnitude = weight[7] ? 7'(-weight) : weight[6:0];
      pair = signed'(8'(CELL_BITS'(magnitude >> (slice * CELL_BITS))));
      if (weight[7]) pair = -pair;
    endfunction

    always_ff @(posedge clk) begin
      if (write_enable) begin
        // verilator unroll_disable
        for (int s = 0; s < SLICES; s++) begin
          // verilator unroll_disable
          for (int i = 0; i < 8; i++) begin
            if (8 * int'(write_word) + i < COLUMNS) begin
              cells[(s*ROWS+int'(write_row))*COLUMNS+8*int'(write_word)+i] <= pair(write_data[8*i+:8], s);
            end
          end
        end
      end
    end

    // verilator lint_off BLKSEQ
    // Charges are converted in other cycles than they change; assigned at once they simulate several times as fast.
    always_ff @(posedge clk) begin
      if (discharge) begin
        // verilator unroll_disable
        for (int n = 0; n < SLICES * COLUMNS; n++) charge[n] = 0;
      end
      if (integrate && driven != '0) begin
        // verilator unroll_disable
        for (int s = 0; s < SLICES; s++) begin
          // verilator unroll_disable
          for (int c = 0; c < COLUMNS; c++) sums[c] = 0;
          // verilator unroll_disable
          for (int r = 0; r < ROWS; r++) begin
            if (driven[r]) begin
              if (negative[r]) begin
                // verilator unroll_disable
                for (int c = 0; c < COLUMNS; c++) sums[c] = sums[c] - int'(cells[(s*ROWS+r)*COLUMNS+c]);
              end else begin
                // verilator unroll_disable
                for (int c = 0; c < COLUMNS; c++) sums[c] = sums[c] + int'(cells[(s*ROWS+r)*COLUMNS+c]);
              end
            end
          end
          // verilator unroll_disable
          for (int c = 0; c < COLUMNS; c++) begin
            automatic longint weight = STEPS != 0 ? 64'(LEVELS[halvings_q]) : 64'sd1 <<< halvings_q;
            automatic longint total = 64'(charge[s*COLUMNS+c]) + 64'(sums[c]) * weight;
            charge[s*COLUMNS+c] = int'(total);
`ifndef SYNTHESIS
            charge_fits : assert (total == 64'(charge[s*COLUMNS+c]))
            else $error("charge_fits: slice %0d of column %0d holds %0d, beyond 32 bits", s, c, total);
`endif
          end
        end
      end
      if (convert) begin
        // verilator unroll_disable
        for (int l = 0; l < CONVERTERS; l++) begin
          if (active[l] && l * COLUMN_MUX + int'(slot) < COLUMNS) begin
            automatic longint half = shift[l] == 0 ? 64'sd0 : 64'sd1 <<< (shift[l] - 1'b1);
            automatic longint held = half + 64'(charge_out[l]);
            automatic longint lowest = -(64'sd1 <<< (CONVERTER_BITS - 1));
            automatic longint code = lowest;
            automatic logic beyond;
            beyond = held < lowest <<< shift[l] || held >= (-lowest) <<< shift[l];
            // verilator unroll_disable
            for (int b = CONVERTER_BITS - 1; b >= 0; b--) begin
              if (held >= (code + (64'sd1 <<< b)) <<< shift[l]) code = code + (64'sd1 <<< b);
            end
            converted[l] <= CONVERTER_BITS'(code);
            saturated[l] <= beyond;
`ifndef SYNTHESIS
            saturation : assert (!beyond || code == lowest || code == -lowest - 1)
            else $error("saturation: converter %0d saturated at %0d, which is no end of its range", l, code);
`endif
          end
        end
      end
    end
    // verilator lint_on BLKSEQ

    always_comb begin
      // verilator unroll_disable
      for (int l = 0; l < CONVERTERS; l++) charge_out[l] = '0;
      if (convert) begin
        // verilator unroll_disable
        for (int l = 0; l < CONVERTERS; l++) begin
          if (l * COLUMN_MUX + int'(slot) < COLUMNS) begin
            automatic longint met = 64'(charge_in[l]);
            // verilator unroll_disable
            for (int s = 0; s < SLICES; s++) met = met + (64'(charge[s*COLUMNS+l*COLUMN_MUX+int'(slot)]) <<< (CELL_BITS * s));
            charge_out[l] = ACCUMULATOR_BITS'(met);
          end
        end
      end
    end
  end

`ifndef SYNTHESIS
  // Immediate, since a concurrent assertion samples every port of every instance anew.
  always_ff @(posedge clk) begin
    if (integrate) begin
      active_rows : assert ($countones(driven) <= ACTIVE_ROWS)
      else $error("active_rows: %0d rows driven at once, at most %0d", $countones(driven), ACTIVE_ROWS);
    end
  end
`endif
endmodule

`default_nettype wire
