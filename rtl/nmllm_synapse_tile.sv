// Synapse tile: axon memory, readout, accumulators and output stage of one region (docs/reference/rtl/synapse-tile.md).
//
// Events are taken always. The next train may begin once the last flit of the present one has left (asserted).
//
// Register map (cfg_address, cfg_data), between runs:
//   unit 1   0 inputs            1 columns         2 Horner shift (0, 1)    3 epilogue (0 values, 1 gate, 2 arg-max)
//            4 output shift S    5 gate fraction   6 hidden fraction        7 output route
//            8 first output (even)  9 first vocabulary index  10 region number  11 biases in use (0, 1)
//           12 row blocks       13 least range of the site, signed (with membranes)
//           14 last slot (where they decay; the least range is then beside phases - 1)
//           256 + g: group g of macros, {converts[27], joined[26], last[25], first[24], row block[23:16], columns with weights[15:0]}, 0: not
//           in use. Groups of the row blocks 0 .. of a column block follow each other (first, .., last), and then those of the next column
//           block. With membranes the charge of a group that is joined meets that of the group before it; a joined block's last group converts
//   unit 2   address = column: {bias[47:16], multiplier[15:0]}
//   unit 3   address = {group, row, word}, each field as wide as its largest value needs: weights of the columns 8 * word .. + 7 of the
//            group, from the low byte up. With gate, column 2i holds the gate's weights of output i, column 2i + 1 those of up
//   unit 4   address = {group, word}: ranges of the same columns, beside the least one of the site (with membranes)
//
// Counters (timing.md, Counters) start at zero with `rst`; read_cycles are the cycles of phases. Those that are multiples of others
// are formed outside: axon_bits_written = axon_bits_read, accumulations = conversions - repeated_conversions, accumulator_bits_read and
// _written = ACCUMULATOR_BITS times accumulations + output_values and accumulations.
// `accumulator_valid`, `accumulator_values`: the word that the output stage read in the cycle before, for verification.
`default_nettype none

module nmllm_synapse_tile
  import nmllm_pkg::*;
#(
    parameter  bit          DIGITAL    = 1'b0,
    localparam int unsigned READ_LANES = ARGMAX_LANES > 4 ? ARGMAX_LANES : 4
) (
    input  logic                               clk,
    input  logic                               rst,
    input  logic                               cfg_valid,
    input  logic        [                 3:0] cfg_unit,
    input  logic        [                23:0] cfg_address,
    input  logic        [                63:0] cfg_data,
    input  logic                               in_valid,
    // verilator lint_off UNUSEDSIGNAL
    input  flit_t                              in_flit,                    // its route was for the routers
    // verilator lint_on UNUSEDSIGNAL
    output logic                               out_valid,
    input  logic                               out_ready,
    output flit_t                              out_flit,
    output logic        [                63:0] events,
    output logic        [                63:0] crossbar_reads,
    output logic        [                63:0] row_drives,
    output logic        [                63:0] cell_reads,
    output logic        [                63:0] conversions,
    output logic        [                63:0] repeated_conversions,
    output logic        [                63:0] integrations,
    output logic        [                63:0] halvings,
    output logic        [                63:0] output_values,
    output logic        [                63:0] gate_operations,
    output logic        [                63:0] maximum_elements,
    output logic        [                63:0] axon_bits_read,
    output logic        [                63:0] output_parameter_bits_read,
    output logic        [                63:0] slot_matches,
    output logic        [                63:0] read_cycles,
    // verilator lint_off UNUSEDSIGNAL
    input  logic                               asleep,                     // by nmllm_tile_switch, for verification
    // verilator lint_on UNUSEDSIGNAL
    output logic                               accumulator_valid,
    output logic signed [ACCUMULATOR_BITS-1:0] accumulator_values        [READ_LANES]
);
  /* verilator no_inline_module */  // one C++ function for all instances
  localparam int unsigned CONVERTERS = (COLUMNS + COLUMN_MUX - 1) / COLUMN_MUX;
  localparam int unsigned SLOT_BITS = COLUMN_MUX > 1 ? $clog2(COLUMN_MUX) : 1;
  localparam int unsigned TERMS = MEMBRANE != 0 ? 1 : SLICES;
  localparam int unsigned TERM_BITS = MEMBRANE != 0 ? ACCUMULATOR_BITS : HIGH_BITS > CONVERTER_BITS ? HIGH_BITS : CONVERTER_BITS;
  localparam int unsigned GROUP_BITS = $clog2(ROW_BLOCKS + 1);
  localparam int unsigned BLOCK_BITS = ROW_BLOCKS > 1 ? $clog2(ROW_BLOCKS) : 1;
  localparam int unsigned COLUMN_BITS = $clog2(COLUMNS + 1);
  localparam int unsigned INDEX_BITS = $clog2(TILE_COLUMNS + READ_LANES + 1);
  localparam int unsigned INPUT_BITS = $clog2(TILE_INPUTS + 1);
  localparam int unsigned PHASE_BITS = MAX_PHASES > 1 ? $clog2(MAX_PHASES) : 1;
  localparam int unsigned COUNT_BITS = $clog2(ACTIVE_ROWS + 1);
  localparam int unsigned LANE_BITS = $clog2(READ_LANES);
  localparam int unsigned WORD_BITS = COLUMNS > READ_LANES ? $clog2(COLUMNS / READ_LANES) : 1;
  localparam logic [3:0] UNIT_REGISTERS = 4'd1, UNIT_PARAMETERS = 4'd2, UNIT_WEIGHTS = 4'd3, UNIT_RANGES = 4'd4;

  if (EVENTS_PER_FLIT > 4 || TILE_INPUTS > 16384) begin : gen_size_check
    $error("nmllm_synapse_tile: a flit holds at most 4 events of 16,384 inputs");
  end

  // Configuration.
  logic [INPUT_BITS-1:0] inputs;
  logic [INDEX_BITS-1:0] columns;
  logic horner, has_bias;
  logic [1:0] epilogue;
  logic signed [7:0] output_shift;
  // verilator lint_off UNUSEDSIGNAL
  logic signed [7:0] least_range;  // with membranes
  logic [STAMP_BITS-1:0] last_slot;  // where they decay
  // verilator lint_on UNUSEDSIGNAL
  logic [5:0] gate_fraction, hidden_fraction;
  logic [ROUTE_BITS-1:0] route;
  logic [15:0] first_output, region;
  logic [31:0] first_token;
  logic [GROUP_BITS-1:0] row_blocks;
  logic [BLOCK_BITS-1:0] group_row_block[ROW_BLOCKS];
  logic [COLUMN_BITS-1:0] group_columns[ROW_BLOCKS];
  logic [ROW_BLOCKS-1:0] group_first, group_last;
  // verilator lint_off UNUSEDSIGNAL
  logic [ROW_BLOCKS-1:0] group_joined, group_converts;  // with membranes
  // verilator lint_on UNUSEDSIGNAL

  always_ff @(posedge clk) begin
    if (cfg_valid && cfg_unit == UNIT_REGISTERS) begin
      unique case (cfg_address)
        24'd0: inputs <= INPUT_BITS'(cfg_data);
        24'd1: columns <= INDEX_BITS'(cfg_data);
        24'd2: horner <= cfg_data[0];
        24'd3: epilogue <= cfg_data[1:0];
        24'd4: output_shift <= cfg_data[7:0];
        24'd5: gate_fraction <= cfg_data[5:0];
        24'd6: hidden_fraction <= cfg_data[5:0];
        24'd7: route <= ROUTE_BITS'(cfg_data);
        24'd8: first_output <= cfg_data[15:0];
        24'd9: first_token <= cfg_data[31:0];
        24'd10: region <= cfg_data[15:0];
        24'd11: has_bias <= cfg_data[0];
        24'd12: row_blocks <= GROUP_BITS'(cfg_data);
        24'd13: least_range <= cfg_data[7:0];
        24'd14: last_slot <= STAMP_BITS'(cfg_data);
        default: begin
          for (int g = 0; g < ROW_BLOCKS; g++) begin
            if (cfg_address == 24'(256 + g)) begin
              group_columns[g] <= COLUMN_BITS'(cfg_data[15:0]);
              group_row_block[g] <= BLOCK_BITS'(cfg_data[23:16]);
              group_first[g] <= cfg_data[24];
              group_last[g] <= cfg_data[25];
              group_joined[g] <= cfg_data[26];
              group_converts[g] <= cfg_data[27];
            end
          end
        end
      endcase
    end
  end

  logic closed, stored, take, phase_start, first, finished, waiting;
  // verilator lint_off UNUSEDSIGNAL
  logic last;  // with membranes
  // verilator lint_on UNUSEDSIGNAL
  logic [2:0] arriving_events;
  logic [TILE_INPUTS-1:0] driven, negative;
  logic [PHASE_BITS:0] phases;

  logic [STAMP_BITS-1:0] train_decays;
  logic matching;
  // verilator lint_off UNUSEDSIGNAL
  logic [STAMP_BITS-1:0] place;  // with membranes
  logic decay;
  logic filled;  // for verification
  // verilator lint_on UNUSEDSIGNAL

  if (STEPS != 0) begin : g_slots
    nmllm_slot_memory u_axons (
        .clk,
        .rst,
        .in_valid,
        .in_flit,
        .last_slot,
        .events(arriving_events),
        .closed,
        .take,
        .start  (phase_start),
        .driven,
        .negative,
        .first,
        .last,
        .slot   (place),
        .decay,
        .decays (train_decays),
        .finished,
        .waiting(filled)
    );
    assign stored = closed;
    assign phases = '0;
    assign waiting = decay;
    assign matching = phase_start && driven != '0;
  end else begin : g_phases
    nmllm_axon_memory #(
        .REVERSED(MEMBRANE != 0 && LEAST_FIRST == 0)
    ) u_axons (
        .clk,
        .rst,
        .in_valid,
        .in_flit,
        .events(arriving_events),
        .closed,
        .stored,
        .take,
        .start (phase_start),
        .driven,
        .negative,
        .first,
        .last,
        .finished,
        .phases,
        .waiting
    );
    assign place = '0;
    assign decay = 1'b0;
    assign train_decays = '0;
    assign matching = 1'b0;
`ifndef SYNTHESIS
    assign filled = phases != '0 || u_axons.filling_driven_q != '0;
`else
    assign filled = 1'b0;
`endif
  end

  // Readout.
  logic add, add_first, add_clear, empty_phase, empty_clear, pick, busy;
  logic [SLOT_BITS-1:0] add_slot;
  logic [COUNT_BITS-1:0] pick_counts[ROW_BLOCKS];
  logic signed [TERM_BITS-1:0] terms[ROW_BLOCKS*TERMS][CONVERTERS];
  logic converting;
  logic [ROW_BLOCKS-1:0] spiked, converted_groups;
  logic [PHASE_BITS:0] train_halvings;
  logic [15:0] repeats;
  logic half_pick;
  logic [COUNT_BITS-1:0] half_counts[ROW_BLOCKS];
  logic [SLICES-1:0] half_macros[ROW_BLOCKS];

  if (MEMBRANE != 0) begin : g_membranes
    nmllm_membrane_readout #(
        .DIGITAL(DIGITAL)
    ) u_readout (
        .clk,
        .rst,
        .write_weights(cfg_valid && cfg_unit == UNIT_WEIGHTS),
        .write_ranges(cfg_valid && cfg_unit == UNIT_RANGES),
        .write_address(cfg_address),
        .write_data(cfg_data),
        .horner,
        .least_range,
        .group_row_block,
        .group_columns,
        .group_joined,
        .group_converts,
        .start(phase_start),
        .driven,
        .negative,
        .first,
        .last,
        .phases,
        .place,
        .decay,
        .take,
        .add,
        .add_slot,
        .terms,
        .empty_train(empty_phase),
        .pick,
        .pick_counts,
        .busy,
        .converting,
        .spiked,
        .converted_groups,
        .halvings(train_halvings),
        .repeats
    );
    assign add_first = 1'b1;
    assign add_clear = 1'b1;
    assign empty_clear = 1'b1;
    assign half_pick = 1'b0;
    assign half_counts = '{default: '0};
    assign half_macros = '{default: '0};
  end else begin : g_exact
    nmllm_exact_readout #(
        .DIGITAL(DIGITAL)
    ) u_readout (
        .clk,
        .rst,
        .write_weights(cfg_valid && cfg_unit == UNIT_WEIGHTS),
        .write_address(cfg_address),
        .write_data(cfg_data),
        .group_row_block,
        .group_columns,
        .start(phase_start),
        .driven,
        .negative,
        .first,
        .take,
        .add,
        .add_first,
        .add_clear,
        .add_slot,
        .terms,
        .empty_phase,
        .pick,
        .pick_counts,
        .busy,
        .half_pick,
        .half_counts,
        .again(half_macros),
        .repeats
    );
    assign empty_clear = first;
    assign converting = 1'b0;
    assign spiked = '0;
    assign converted_groups = '0;
    assign train_halvings = '0;
  end

  logic stage_read, output_start, output_done, outputs_left;
  logic [GROUP_BITS-1:0] stage_group;
  logic [WORD_BITS-1:0] stage_word;
  logic [LANE_BITS:0] stage_count;
  logic [4:0] k_min;

  nmllm_accumulators #(
      .READ_LANES(READ_LANES),
      .TERMS(TERMS),
      .TERM_BITS(TERM_BITS)
  ) u_accumulators (
      .clk,
      .group_columns,
      .group_first,
      .group_last,
      .horner,
      .add,
      .first(add_first),
      .clear(add_clear),
      .slot(add_slot),
      .terms,
      .empty_phase,
      .empty_clear,
      .read(stage_read),
      .read_group(stage_group),
      .read_word(stage_word),
      .values(accumulator_values)
  );

  always_ff @(posedge clk) begin
    output_start <= finished;
    accumulator_valid <= stage_read;
    if (closed) k_min <= in_flit.tag[4:0];
    if (finished) outputs_left <= 1'b1;
    if (output_done) outputs_left <= 1'b0;
    if (rst) begin
      output_start <= 1'b0;
      accumulator_valid <= 1'b0;
      outputs_left <= 1'b0;
    end
  end

  nmllm_output_stage u_output (
      .clk,
      .rst,
      .epilogue,
      .columns,
      .has_bias,
      .output_shift,
      .gate_fraction,
      .hidden_fraction,
      .route,
      .first_output,
      .first_token,
      .region,
      .row_blocks,
      .parameter_write(cfg_valid && cfg_unit == UNIT_PARAMETERS),
      .parameter_column(INDEX_BITS'(cfg_address)),
      .parameter_data(cfg_data[47:0]),
      .start(output_start),
      .k_min,
      .done(output_done),
      .read(stage_read),
      .read_group(stage_group),
      .read_word(stage_word),
      .accumulators(accumulator_values),
      .read_count(stage_count),
      .out_valid,
      .out_ready,
      .out_flit
  );

  nmllm_synapse_counters u_counters (
      .clk,
      .rst,
      .group_row_block,
      .group_columns,
      .inputs,
      .epilogue,
      .has_bias,
      .arriving_events,
      .stored,
      .pick,
      .pick_counts,
      .converting,
      .spiked,
      .converted_groups,
      .train_halvings(STEPS != 0 ? 7'(train_decays) : 7'(train_halvings)),
      .matching,
      .repeats,
      .half_pick,
      .half_counts,
      .again(half_macros),
      .busy(busy || waiting),
      .stage_count(stage_read ? stage_count : '0),
      .events,
      .crossbar_reads,
      .row_drives,
      .cell_reads,
      .conversions,
      .repeated_conversions,
      .integrations,
      .halvings,
      .output_values,
      .gate_operations,
      .maximum_elements,
      .axon_bits_read,
      .output_parameter_bits_read,
      .slot_matches,
      .read_cycles
  );

`ifndef SYNTHESIS
  one_train : assert property (@(posedge clk) disable iff (rst) in_valid |-> !outputs_left && !finished)
  else $error("one_train: an event flit arrived before the results of the last train had left");
  at_rest : assert property (@(posedge clk) disable iff (rst) asleep |-> !busy && !outputs_left && !filled)
  else $error("at_rest: a tile that is off or waking has work under way");
  same_exponent : assert property (@(posedge clk) disable iff (rst) closed && STEPS == 0 && phases != 0 |-> in_flit.tag[4:0] == k_min)
  else $error("same_exponent: k_min changes within a train");
  even_output : assert property (@(posedge clk) disable iff (rst) out_valid && epilogue != 2'd2 |-> !out_flit.tag[0])
  else $error("even_output: a region starts at an odd output");
  localparam int unsigned EVENT_BITS = STEPS != 0 ? 15 + STAMP_BITS : 16;
  for (genvar e = 0; e < int'(FLIT_EVENTS); e++) begin : gen_events
    logic there;
    assign there = in_valid && (STEPS != 0 ? 3'(e) < arriving_events : in_flit.payload[16*e+15]);
    known_input : assert property (@(posedge clk) disable iff (rst) there |-> 32'(in_flit.payload[EVENT_BITS*e+:14]) < 32'(inputs))
    else $error("known_input: an event of input %0d, the region has %0d", in_flit.payload[EVENT_BITS*e+:14], inputs);
  end
`endif
endmodule

`default_nettype wire
