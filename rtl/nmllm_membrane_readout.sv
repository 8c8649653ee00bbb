// Membrane readout of a synapse tile: scheduler, membranes and range logic; every column is converted once for each train.
//
//   write_...     weights of the macros and their ranges: address and data of the units 3 and 4 of nmllm_synapse_tile
//   least_range   of the site; horner: phases are halved
//   start, ...    a phase, see nmllm_axon_memory; `take`: another one can start in the next cycle. Where membranes decay it is a slot, `place` its
//                 number, and `decay` one that does not start (nmllm_slot_memory)
//   add, ...      values `terms` of a slot, for nmllm_accumulators; `empty_train`: of a train without events nothing comes
//   group_...     map of the macros. The charge of a group that is `group_joined` meets that of the group before it, and the last one of
//                 those that are joined `group_converts`
//   pick, busy    for the counters, as of nmllm_membrane_scheduler. `converting`: the conversions of a train begin, by the groups
//                 `converted_groups`, of the row blocks `spiked` and after `halvings`; `repeats`: columns converted again in this cycle
`default_nettype none

module nmllm_membrane_readout
  import nmllm_pkg::*;
#(
    parameter  bit          DIGITAL     = 1'b0,
    localparam int unsigned CONVERTERS  = (COLUMNS + COLUMN_MUX - 1) / COLUMN_MUX,
    localparam int unsigned SLOT_BITS   = COLUMN_MUX > 1 ? $clog2(COLUMN_MUX) : 1,
    localparam int unsigned PHASE_BITS  = MAX_PHASES > 1 ? $clog2(MAX_PHASES) : 1,
    localparam int unsigned BLOCK_BITS  = ROW_BLOCKS > 1 ? $clog2(ROW_BLOCKS) : 1,
    localparam int unsigned COLUMN_BITS = $clog2(COLUMNS + 1),
    localparam int unsigned COUNT_BITS  = $clog2(ACTIVE_ROWS + 1)
) (
    input  logic                               clk,
    input  logic                               rst,
    input  logic                               write_weights,
    input  logic                               write_ranges,
    input  logic        [                23:0] write_address,
    input  logic        [                63:0] write_data,
    input  logic                               horner,
    input  logic signed [                 7:0] least_range,
    input  logic        [      BLOCK_BITS-1:0] group_row_block[ROW_BLOCKS],
    input  logic        [     COLUMN_BITS-1:0] group_columns  [ROW_BLOCKS],
    // verilator lint_off UNUSEDSIGNAL
    input  logic        [      ROW_BLOCKS-1:0] group_joined,               // nothing stands before the first group
    // verilator lint_on UNUSEDSIGNAL
    input  logic        [      ROW_BLOCKS-1:0] group_converts,
    input  logic                               start,
    input  logic        [     TILE_INPUTS-1:0] driven,
    input  logic        [     TILE_INPUTS-1:0] negative,
    input  logic                               first,
    input  logic                               last,
    input  logic        [        PHASE_BITS:0] phases,
    input  logic        [                 5:0] place,
    input  logic                               decay,
    output logic                               take,
    output logic                               add,
    output logic        [       SLOT_BITS-1:0] add_slot,
    output logic signed [ACCUMULATOR_BITS-1:0] terms          [ROW_BLOCKS][CONVERTERS],
    output logic                               empty_train,
    output logic                               pick,
    output logic        [      COUNT_BITS-1:0] pick_counts    [ROW_BLOCKS],
    output logic                               busy,
    output logic                               converting,
    output logic        [      ROW_BLOCKS-1:0] spiked,
    output logic        [      ROW_BLOCKS-1:0] converted_groups,
    output logic        [        PHASE_BITS:0] halvings,
    output logic        [                15:0] repeats
);
  localparam int unsigned ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1;
  localparam int unsigned WORD_BITS = COLUMNS > 8 ? $clog2((COLUMNS + 7) / 8) : 1;

  if (OUTPUT_LATENCY < 6 || GATE_LATENCY < 11) begin : g_latency_check
    $error("nmllm_membrane_readout: OUTPUT_LATENCY is at least 6 and GATE_LATENCY at least 11");
  end
  if (MAX_PHASES > 64) begin : g_phases_check
    $error("nmllm_membrane_readout: MAX_PHASES is at most 64");
  end

  logic discharge, halve, integrate, convert, convert_first, convert_last;
  logic [SLOT_BITS-1:0] slot;
  logic [ROWS-1:0] integrate_driven[ROW_BLOCKS], integrate_negative[ROW_BLOCKS];
  logic [15:0] group_repeats[ROW_BLOCKS];

  nmllm_membrane_scheduler u_scheduler (
      .clk,
      .rst,
      .horner,
      .start,
      .driven,
      .negative,
      .first,
      .last,
      .take,
      .discharge,
      .halve,
      .integrate,
      .integrate_driven,
      .integrate_negative,
      .convert,
      .convert_first,
      .convert_last,
      .slot,
      .spiked,
      .empty_train,
      .pick,
      .pick_counts,
      .busy
  );
  assign halvings = horner && STEPS == 0 ? phases - 1'b1 : '0;
  assign converting = convert_first && slot == '0;

  for (genvar g = 0; g < ROW_BLOCKS; g++) begin : g_groups
    logic used, block_spiked, group_convert;
    logic active[CONVERTERS], saturated[CONVERTERS];
    logic [5:0] shift[CONVERTERS];
    logic signed [CONVERTER_BITS-1:0] converted[CONVERTERS];
    logic signed [ACCUMULATOR_BITS-1:0] charge_in[CONVERTERS];
    // verilator lint_off UNUSEDSIGNAL
    logic signed [ACCUMULATOR_BITS-1:0] charge_out[CONVERTERS];  // nothing stands behind the last group
    // verilator lint_on UNUSEDSIGNAL
    assign used = group_columns[g] != 0;
    if (g == 0) begin : g_first
      assign block_spiked = used && spiked[group_row_block[g]];
      assign charge_in = '{default: '0};
    end else begin : g_next
      assign block_spiked = used && (spiked[group_row_block[g]] || (group_joined[g] && g_groups[g-1].block_spiked));
      always_comb begin
        // verilator unroll_disable
        for (int l = 0; l < CONVERTERS; l++) charge_in[l] = group_joined[g] ? g_groups[g-1].charge_out[l] : '0;
      end
    end
    assign converted_groups[g] = block_spiked && group_converts[g];
    assign group_convert = block_spiked && convert;

    nmllm_membrane_array #(
        .DIGITAL(DIGITAL)
    ) u_array (
        .clk,
        .write_enable(write_weights && write_address >> (ROW_BITS + WORD_BITS) == 24'(g)),
        .write_row(write_address[WORD_BITS+:ROW_BITS]),
        .write_word(write_address[WORD_BITS-1:0]),
        .write_data,
        .discharge(used && discharge),
        .place,
        .halve(used && (halve || decay)),
        .integrate(used && integrate),
        .driven(integrate_driven[group_row_block[g]]),
        .negative(integrate_negative[group_row_block[g]]),
        .convert(group_convert),
        .slot,
        .charge_in,
        .charge_out,
        .active,
        .shift,
        .converted,
        .saturated
    );

    nmllm_range_logic u_ranges (
        .clk,
        .write_enable(write_ranges && write_address >> WORD_BITS == 24'(g)),
        .write_word(write_address[WORD_BITS-1:0]),
        .write_data,
        .base(9'(least_range) + 9'(signed'({1'b0, halvings}))),
        .spiked(converted_groups[g]),
        .convert(convert && converted_groups[g]),
        .convert_first,
        .slot,
        .converted,
        .saturated,
        .active,
        .shift,
        .repeats(group_repeats[g]),
        .terms(terms[g])
    );
  end

  always_comb begin
    repeats = '0;
    if (convert && !convert_first) begin
      for (int g = 0; g < ROW_BLOCKS; g++) repeats = repeats + group_repeats[g];
    end
  end

  always_ff @(posedge clk) begin
    add <= convert_last;
    add_slot <= slot;
    if (rst) add <= 1'b0;
  end
endmodule

`default_nettype wire
