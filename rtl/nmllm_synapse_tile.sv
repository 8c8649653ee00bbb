// Synapse tile: axon memory, read scheduler, crossbar macros, accumulators and output stage of one region (docs/reference/rtl/synapse-tile.md).
//
// Events are taken always. The next train may begin once the last flit of the present one has left (asserted).
//
// Register map (cfg_address, cfg_data), between runs:
//   unit 1   0 inputs            1 columns         2 Horner shift (0, 1)    3 epilogue (0 values, 1 gate, 2 arg-max)
//            4 output shift S    5 gate fraction   6 hidden fraction        7 output route
//            8 first output (even)  9 first vocabulary index  10 region number  11 biases in use (0, 1)
//           12 row blocks       13 columns of a full column block: COLUMNS, or the next lower even number for gate and up
//           256 + g: group g of macros, {last[25], first[24], row block[23:16], columns with weights[15:0]}, 0: not in use. Groups of the
//           row blocks 0 .. of a column block follow each other (first, .., last), and then those of the next column block
//   unit 2   address = column: {bias[47:16], multiplier[15:0]}
//   unit 3   address = {group, row, word}, each field as wide as its largest value needs: weights of the columns 8 * word .. + 7 of the
//            group, from the low byte up. With gate, column 2i holds the gate's weights of output i, column 2i + 1 those of up
//
// Counters (timing.md, Counters) start at zero with `rst`; read_cycles are the cycles of phases. Those that are multiples of others
// are formed outside: axon_bits_written = axon_bits_read, accumulations = conversions, accumulator_bits_read and _written =
// ACCUMULATOR_BITS times conversions + output_values and conversions.
// `accumulator_valid`, `accumulator_values`: what the output stage read in the cycle before, for verification.
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
    output logic        [                63:0] output_values,
    output logic        [                63:0] gate_operations,
    output logic        [                63:0] maximum_elements,
    output logic        [                63:0] axon_bits_read,
    output logic        [                63:0] output_parameter_bits_read,
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
  localparam int unsigned ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1;
  localparam int unsigned WORD_BITS = COLUMNS > 8 ? $clog2((COLUMNS + 7) / 8) : 1;
  localparam int unsigned GROUP_BITS = $clog2(ROW_BLOCKS + 1);
  localparam int unsigned BLOCK_BITS = ROW_BLOCKS > 1 ? $clog2(ROW_BLOCKS) : 1;
  localparam int unsigned COLUMN_BITS = $clog2(COLUMNS + 1);
  localparam int unsigned INDEX_BITS = $clog2(TILE_COLUMNS + READ_LANES + 1);
  localparam int unsigned INPUT_BITS = $clog2(TILE_INPUTS + 1);
  localparam int unsigned PHASE_BITS = MAX_PHASES > 1 ? $clog2(MAX_PHASES) : 1;
  localparam int unsigned COUNT_BITS = $clog2(ACTIVE_ROWS + 1);
  localparam int unsigned LANE_BITS = $clog2(READ_LANES);
  localparam logic [3:0] UNIT_REGISTERS = 4'd1, UNIT_PARAMETERS = 4'd2, UNIT_WEIGHTS = 4'd3;

  if (EVENTS_PER_FLIT > 4 || TILE_INPUTS > 16384) begin : gen_size_check
    $error("nmllm_synapse_tile: a flit holds at most 4 events of 16,384 inputs");
  end

  // Configuration.
  logic [INPUT_BITS-1:0] inputs;
  logic [INDEX_BITS-1:0] columns;
  logic horner, has_bias;
  logic [1:0] epilogue;
  logic signed [7:0] output_shift;
  logic [5:0] gate_fraction, hidden_fraction;
  logic [ROUTE_BITS-1:0] route;
  logic [15:0] first_output, region;
  logic [31:0] first_token;
  logic [GROUP_BITS-1:0] row_blocks;
  logic [BLOCK_BITS-1:0] group_row_block[ROW_BLOCKS];
  logic [COLUMN_BITS-1:0] block_columns, group_columns[ROW_BLOCKS];
  logic [ROW_BLOCKS-1:0] group_first, group_last;

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
        24'd13: block_columns <= COLUMN_BITS'(cfg_data);
        default: begin
          for (int g = 0; g < ROW_BLOCKS; g++) begin
            if (cfg_address == 24'(256 + g)) begin
              group_columns[g] <= COLUMN_BITS'(cfg_data[15:0]);
              group_row_block[g] <= BLOCK_BITS'(cfg_data[23:16]);
              group_first[g] <= cfg_data[24];
              group_last[g] <= cfg_data[25];
            end
          end
        end
      endcase
    end
  end

  // Axon memory: a phase fills in registers and is written as one word when its last flit arrives.
  logic closed;
  logic [TILE_INPUTS-1:0] filling_driven, filling_negative, arriving_driven, arriving_negative, memory_driven, memory_negative;
  logic [PHASE_BITS-1:0] closed_phase, memory_address;
  logic memory_enable;
  logic [2:0] arriving_events;

  assign closed = in_valid && in_flit.flag;
  always_comb begin
    arriving_driven = filling_driven;
    arriving_negative = filling_negative;
    arriving_events = '0;
    if (in_valid) begin
      for (int e = 0; e < EVENTS_PER_FLIT; e++) begin
        automatic logic [15:0] event_bits = in_flit.payload[16*e+:16];
        if (event_bits[15] && int'(event_bits[13:0]) < TILE_INPUTS) begin
          arriving_driven[int'(event_bits[13:0])] = 1'b1;
          arriving_negative[int'(event_bits[13:0])] = event_bits[14];
          arriving_events = arriving_events + 1'b1;
        end
      end
    end
  end

  always_ff @(posedge clk) begin
    if (in_valid) begin
      filling_driven   <= in_flit.flag ? '0 : arriving_driven;
      filling_negative <= in_flit.flag ? '0 : arriving_negative;
    end
    if (rst) filling_driven <= '0;
    if (rst) filling_negative <= '0;
  end

  nmllm_ram #(
      .WIDTH(2 * TILE_INPUTS),
      .DEPTH(MAX_PHASES)
  ) u_axons (
      .clk,
      .write_enable (closed),
      .write_address(closed_phase),
      .write_data   ({arriving_negative, arriving_driven}),
      .read_enable  (memory_enable),
      .read_address (memory_address),
      .read_data    ({memory_negative, memory_driven})
  );

  // Reads.
  logic read, read_first, read_clear, empty_phase, empty_clear, pick, busy, finished;
  logic [SLOT_BITS-1:0] read_slot;
  logic [ROWS-1:0] read_driven[ROW_BLOCKS], read_negative[ROW_BLOCKS];
  logic [COUNT_BITS-1:0] pick_counts[ROW_BLOCKS];

  nmllm_read_scheduler u_scheduler (
      .clk,
      .rst,
      .closed,
      .closed_last(in_flit.tag[5]),
      .closed_driven(arriving_driven),
      .closed_negative(arriving_negative),
      .closed_phase,
      .memory_enable,
      .memory_address,
      .memory_driven,
      .memory_negative,
      .read,
      .read_first,
      .read_clear,
      .read_slot,
      .read_driven,
      .read_negative,
      .empty_phase,
      .empty_clear,
      .pick,
      .pick_counts,
      .busy,
      .finished
  );

  logic signed [CONVERTER_BITS-1:0] converted[ROW_BLOCKS*SLICES][CONVERTERS];
  for (genvar g = 0; g < ROW_BLOCKS; g++) begin : gen_groups
    logic [ROWS-1:0] driven, negative;
    assign driven = read_driven[group_row_block[g]];
    assign negative = read_negative[group_row_block[g]];
    for (genvar s = 0; s < SLICES; s++) begin : gen_slices
      nmllm_crossbar #(
          .SLICE  (s),
          .DIGITAL(DIGITAL)
      ) u_crossbar (
          .clk,
          .write_enable(cfg_valid && cfg_unit == UNIT_WEIGHTS && cfg_address >> (ROW_BITS + WORD_BITS) == 24'(g)),
          .write_row(cfg_address[WORD_BITS+:ROW_BITS]),
          .write_word(cfg_address[WORD_BITS-1:0]),
          .write_data(cfg_data),
          .read(read && group_columns[g] != 0),
          .slot(read_slot),
          .driven,
          .negative,
          .converted(converted[g*SLICES+s])
      );
    end
  end

  logic add, add_first, add_clear;
  logic [SLOT_BITS-1:0] add_slot;
  always_ff @(posedge clk) begin
    add <= read;
    add_first <= read_first;
    add_clear <= read_clear;
    add_slot <= read_slot;
    if (rst) add <= 1'b0;
  end

  logic stage_read, output_start, output_done, outputs_left;
  logic [GROUP_BITS-1:0] stage_group;
  logic [COLUMN_BITS-1:0] stage_column;
  logic [LANE_BITS:0] stage_count;
  logic [4:0] k_min;

  nmllm_accumulators #(
      .READ_LANES(READ_LANES)
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
      .converted,
      .empty_phase,
      .empty_clear,
      .read(stage_read),
      .read_group(stage_group),
      .read_column(stage_column),
      .read_stride(row_blocks),
      .read_block(block_columns),
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
      .block_columns,
      .parameter_write(cfg_valid && cfg_unit == UNIT_PARAMETERS),
      .parameter_column(INDEX_BITS'(cfg_address)),
      .parameter_data(cfg_data[47:0]),
      .start(output_start),
      .k_min,
      .done(output_done),
      .read(stage_read),
      .read_group(stage_group),
      .read_column(stage_column),
      .accumulators(accumulator_values),
      .read_count(stage_count),
      .out_valid,
      .out_ready,
      .out_flit
  );

  // Counters. What a read does is summed over the groups, each seeing its own macros, rows and columns.
  logic [15:0] picked_macros, picked_rows;
  logic [31:0] picked_cells, picked_columns;
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

  assign output_parameter_bits_read = output_values * (has_bias ? 64'd48 : 64'd16);
  assign gate_operations = epilogue == 2'd1 ? output_values >> 1 : '0;
  assign maximum_elements = epilogue == 2'd2 ? output_values : '0;

  always_ff @(posedge clk) begin
    if (in_valid) events <= events + 64'(arriving_events);
    if (closed) axon_bits_read <= axon_bits_read + 64'(inputs) * 2;
    if (pick) begin
      crossbar_reads <= crossbar_reads + 64'(picked_macros);
      row_drives <= row_drives + 64'(picked_rows);
      cell_reads <= cell_reads + 64'(picked_cells);
      conversions <= conversions + 64'(picked_columns);
    end
    if (busy) read_cycles <= read_cycles + 1'b1;
    if (stage_read) output_values <= output_values + 64'(stage_count);
    if (rst) begin
      events <= '0;
      axon_bits_read <= '0;
      crossbar_reads <= '0;
      row_drives <= '0;
      cell_reads <= '0;
      conversions <= '0;
      read_cycles <= '0;
      output_values <= '0;
    end
  end

`ifndef SYNTHESIS
  one_train : assert property (@(posedge clk) disable iff (rst) in_valid |-> !outputs_left && !finished)
  else $error("one_train: an event flit arrived before the results of the last train had left");
  at_rest : assert property (@(posedge clk) disable iff (rst) asleep |-> !busy && !finished && !outputs_left && filling_driven == '0)
  else $error("at_rest: a tile that is off or waking has work under way");
  same_exponent : assert property (@(posedge clk) disable iff (rst) closed && closed_phase != 0 |-> in_flit.tag[4:0] == k_min)
  else $error("same_exponent: k_min changes within a train");
  even_output : assert property (@(posedge clk) disable iff (rst) out_valid && epilogue != 2'd2 |-> !out_flit.tag[0])
  else $error("even_output: a region starts at an odd output");
  for (genvar e = 0; e < EVENTS_PER_FLIT; e++) begin : gen_events
    known_input : assert property (@(posedge clk) disable iff (rst) in_valid && in_flit.payload[16*e+15] |-> 32'(in_flit.payload[16*e+:14]) < 32'(inputs))
    else $error("known_input: an event of input %0d, the region has %0d", in_flit.payload[16*e+:14], inputs);
    one_event : assert property (@(posedge clk) disable iff (rst) in_valid && in_flit.payload[16*e+15] |-> !filling_driven[int'(in_flit.payload[16*e+:14]) % TILE_INPUTS])
    else $error("one_event: a second event of input %0d in one phase", in_flit.payload[16*e+:14]);
  end
`endif
endmodule

`default_nettype wire
