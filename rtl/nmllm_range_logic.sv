// Range logic of a group with membranes: at which shift each column is converted, again where its conversion saturated.
//
//   write_...  eight ranges of columns 8 * write_word .. + 7, a byte each, the first in the low byte: RANGE_BITS bits beside the least one
//   base       halvings of the train and the least range of the site
//   convert    the columns of `slot` are converted in this cycle, if `active` at `shift` (nmllm_membrane_array); convert_first to convert_last:
//              the cycles of a slot
//   repeats    columns that are converted again in this cycle
//   terms      converted values of a slot times 2^shift, in the cycle after convert_last; 0 without `spiked`
//
// The shift of a first conversion is base + range, at least 0 and at most 29; after a conversion that saturated it is 2 more.
`default_nettype none

module nmllm_range_logic
  import nmllm_pkg::*;
#(
    localparam int unsigned CONVERTERS = (COLUMNS + COLUMN_MUX - 1) / COLUMN_MUX,
    localparam int unsigned SLOT_BITS  = COLUMN_MUX > 1 ? $clog2(COLUMN_MUX) : 1,
    localparam int unsigned WORD_BITS  = COLUMNS > 8 ? $clog2((COLUMNS + 7) / 8) : 1
) (
    input  logic                               clk,
    input  logic                               write_enable,
    input  logic        [       WORD_BITS-1:0] write_word,
    // verilator lint_off UNUSEDSIGNAL
    input  logic        [                63:0] write_data,                // RANGE_BITS of each byte
    // verilator lint_on UNUSEDSIGNAL
    input  logic signed [                 8:0] base,
    input  logic                               spiked,
    input  logic                               convert,
    input  logic                               convert_first,
    input  logic        [       SLOT_BITS-1:0] slot,
    input  logic signed [  CONVERTER_BITS-1:0] converted    [CONVERTERS],
    input  logic                               saturated    [CONVERTERS],
    output logic                               active       [CONVERTERS],
    output logic        [                 5:0] shift        [CONVERTERS],
    output logic        [                15:0] repeats,
    output logic signed [ACCUMULATOR_BITS-1:0] terms        [CONVERTERS]
);
  /* verilator no_inline_module */  // one C++ function for all instances
  localparam int unsigned WORDS = (COLUMNS + 7) / 8;
  localparam logic signed [9:0] LARGEST_SHIFT = 10'sd29;

  logic [RANGE_BITS-1:0] ranges_q[8*WORDS];
  logic [5:0] shift_q[CONVERTERS];

  always_ff @(posedge clk) begin
    if (write_enable) begin
      // verilator unroll_disable
      for (int i = 0; i < 8; i++) ranges_q[8*int'(write_word)+i] <= write_data[8*i+:RANGE_BITS];
    end
    if (convert) begin
      // verilator unroll_disable
      for (int l = 0; l < CONVERTERS; l++) begin
        if (active[l]) shift_q[l] <= shift[l];
      end
    end
  end

  always_comb begin
    repeats = '0;
    // verilator unroll_disable
    for (int l = 0; l < CONVERTERS; l++) begin
      automatic int column = l * COLUMN_MUX + int'(slot);
      automatic logic signed [9:0] place = '0;
      active[l] = 1'b0;
      shift[l]  = shift_q[l] + 6'd2;
      if (convert && column < COLUMNS) begin
        active[l] = convert_first || saturated[l];
        place = 10'(base) + 10'(signed'({1'b0, ranges_q[column]}));
        if (convert_first) shift[l] = place < 0 ? '0 : place > LARGEST_SHIFT ? 6'(LARGEST_SHIFT) : place[5:0];
        else if (saturated[l]) repeats = repeats + 1'b1;
      end
    end
  end

  always_comb begin
    // verilator unroll_disable
    for (int l = 0; l < CONVERTERS; l++) terms[l] = spiked ? ACCUMULATOR_BITS'(converted[l]) <<< shift_q[l] : '0;
  end

  if (CONVERTER_BITS > ACCUMULATOR_BITS) begin : g_size_check
    $error("nmllm_range_logic: CONVERTER_BITS is at most ACCUMULATOR_BITS");
  end
endmodule

`default_nettype wire
