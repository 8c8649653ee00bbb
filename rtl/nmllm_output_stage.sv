// Output stage of a synapse tile: scale, bias, then values, gated products or the arg-max of the region, as flits.
//
// `start` is the first cycle after the last phase (numerics.md, Linear layer, Gated feed-forward; timing.md, Synapse tile):
//   EPILOGUE_VALUES  two columns per cycle, first flit OUTPUT_LATENCY cycles later; tag: index of the first value in the receiver's vector
//   EPILOGUE_GATE    columns 2i (gate) and 2i + 1 (up), two pairs per cycle, first flit GATE_LATENCY cycles later
//   EPILOGUE_ARGMAX  ARGMAX_LANES columns per cycle, one flit ceil(columns / ARGMAX_LANES) + OUTPUT_LATENCY cycles later; tag: number of the
//                    region, payload: index in the vocabulary (high half) and largest logit (low half), the lowest index among equals
// `flag` of a flit of values: only the first one counts (the high half is zero). `done`: the last flit leaves.
//
// While a flit waits the pipeline stands still. It is 4 stages long (read, multiply, shift, bias), and 6 more for the gate or 2 for the
// arg-max; what is left of the latency passes before the first read. So OUTPUT_LATENCY >= 5, GATE_LATENCY >= 10. Longest paths: the
// 32 x 16-bit and (gate) 32 x 33-bit products, a stage each.
//
// Multiplier memory: `parameter_write`, column, {bias[31:0], multiplier[15:0]}.
`default_nettype none

module nmllm_output_stage
  import nmllm_pkg::*;
#(
    localparam int unsigned READ_LANES  = ARGMAX_LANES > 4 ? ARGMAX_LANES : 4,
    localparam int unsigned LANE_BITS   = $clog2(READ_LANES),
    localparam int unsigned INDEX_BITS  = $clog2(TILE_COLUMNS + READ_LANES + 1),
    localparam int unsigned GROUP_BITS  = $clog2(ROW_BLOCKS + 1),
    localparam int unsigned WORD_BITS   = COLUMNS > READ_LANES ? $clog2(COLUMNS / READ_LANES) : 1
) (
    input  logic                               clk,
    input  logic                               rst,
    // configuration
    input  logic        [                 1:0] epilogue,
    input  logic        [      INDEX_BITS-1:0] columns,
    input  logic                               has_bias,
    input  logic signed [                 7:0] output_shift,
    input  logic        [                 5:0] gate_fraction,
    input  logic        [                 5:0] hidden_fraction,
    input  logic        [      ROUTE_BITS-1:0] route,
    input  logic        [                15:0] first_output,
    input  logic        [                31:0] first_token,
    input  logic        [                15:0] region,
    input  logic        [      GROUP_BITS-1:0] row_blocks,
    input  logic                               parameter_write,
    input  logic        [      INDEX_BITS-1:0] parameter_column,
    input  logic        [                47:0] parameter_data,
    // one train
    input  logic                               start,
    input  logic        [                 4:0] k_min,
    output logic                               done,
    // accumulators, a word of READ_LANES columns at a time
    output logic                               read,
    output logic        [      GROUP_BITS-1:0] read_group,
    output logic        [       WORD_BITS-1:0] read_word,
    input  logic signed [ACCUMULATOR_BITS-1:0] accumulators    [READ_LANES],
    // columns taken in this cycle, for the counters
    output logic        [         LANE_BITS:0] read_count,
    output logic                               out_valid,
    input  logic                               out_ready,
    output flit_t                              out_flit
);
  /* verilator no_inline_module */  // one C++ function for all instances
  localparam logic [1:0] EPILOGUE_GATE = 2'd1, EPILOGUE_ARGMAX = 2'd2;
  localparam int unsigned VALUE_STAGES = 4, GATE_STAGES = 10, ARGMAX_STAGES = 5;
  localparam int unsigned LONGEST_WAIT = OUTPUT_LATENCY > GATE_LATENCY ? OUTPUT_LATENCY : GATE_LATENCY;
  localparam int unsigned WAIT_BITS = $clog2(LONGEST_WAIT + 1);
  localparam int unsigned WORDS = (TILE_COLUMNS + READ_LANES - 1) / READ_LANES;
  localparam int unsigned ADDRESS_BITS = WORDS > 1 ? $clog2(WORDS) : 1;
  localparam logic [WORD_BITS-1:0] LAST_WORD = WORD_BITS'(COLUMNS / READ_LANES - 1);  // of a group

  if (OUTPUT_LATENCY < ARGMAX_STAGES || GATE_LATENCY < GATE_STAGES) begin : gen_latency_check
    $error("nmllm_output_stage: OUTPUT_LATENCY is at least 5 and GATE_LATENCY at least 10");
  end
  if ((ARGMAX_LANES & (ARGMAX_LANES - 1)) != 0 || COLUMNS % READ_LANES != 0 || ACCUMULATOR_BITS > 32) begin : gen_size_check
    $error("nmllm_output_stage: ARGMAX_LANES is a power of two, COLUMNS a multiple of it and of 4, and ACCUMULATOR_BITS at most 32");
  end

  function automatic logic signed [31:0] saturate(input logic signed [63:0] x);
    if (x > 64'sh7fff_ffff) saturate = 32'sh7fff_ffff;
    else if (x < -64'sh8000_0000) saturate = 32'sh8000_0000;
    else saturate = x[31:0];
  endfunction

  // rsh of numerics.md for 0 <= n.
  function automatic logic signed [63:0] shift_right(input logic signed [63:0] x, input logic [5:0] n);
    shift_right = n == 0 ? x : (x + (64'sd1 <<< (n - 6'd1))) >>> n;
  endfunction

  logic advance, gate, argmax;
  assign gate = epilogue == EPILOGUE_GATE;
  assign argmax = epilogue == EPILOGUE_ARGMAX;
  assign advance = !out_valid || out_ready;

  // After the wait a step of columns is taken in every cycle in which the pipeline moves; a word is read with the first of its columns.
  logic waiting, reading;
  logic [WAIT_BITS-1:0] wait_cycles, wait_length;
  logic [INDEX_BITS-1:0] column;
  logic [LANE_BITS:0] step;
  logic take, last_take;
  logic [LANE_BITS:0] count;
  logic [INDEX_BITS-1:0] next_column;

  always_comb begin
    unique case (epilogue)
      EPILOGUE_GATE: begin
        wait_length = WAIT_BITS'(GATE_LATENCY - GATE_STAGES);
        step = (LANE_BITS + 1)'(4);
      end
      EPILOGUE_ARGMAX: begin
        wait_length = WAIT_BITS'(OUTPUT_LATENCY - ARGMAX_STAGES);
        step = (LANE_BITS + 1)'(ARGMAX_LANES);
      end
      default: begin
        wait_length = WAIT_BITS'(OUTPUT_LATENCY - VALUE_STAGES);
        step = (LANE_BITS + 1)'(2);
      end
    endcase
  end
  assign take = (start && wait_length == 0) || (waiting && wait_cycles == 0) || (reading && advance);
  assign last_take = next_column >= columns;
  assign count = last_take ? (LANE_BITS + 1)'(columns - column) : step;
  assign next_column = column + INDEX_BITS'(step);
  assign read = take && column[LANE_BITS-1:0] == '0;
  assign read_count = columns - column < INDEX_BITS'(READ_LANES) ? (LANE_BITS + 1)'(columns - column) : (LANE_BITS + 1)'(READ_LANES);

  always_ff @(posedge clk) begin
    if (start && wait_length != 0) begin
      waiting <= 1'b1;
      wait_cycles <= wait_length - 1'b1;
    end
    if (waiting) begin
      wait_cycles <= wait_cycles - 1'b1;
      if (wait_cycles == 0) waiting <= 1'b0;
    end
    if (take) begin
      reading <= !last_take;
      column  <= next_column;
      if (next_column[LANE_BITS-1:0] == '0) begin
        read_word <= read_word == LAST_WORD ? '0 : read_word + 1'b1;
        if (read_word == LAST_WORD) read_group <= read_group + row_blocks;
      end
    end
    if (!start && !waiting && !reading) begin
      column <= '0;
      read_group <= row_blocks - 1'b1;  // last group of the first column block
      read_word <= '0;
    end
    if (rst) begin
      waiting <= 1'b0;
      reading <= 1'b0;
    end
  end

  // Multipliers and biases, READ_LANES columns per word.
  logic [47:0] parameters[READ_LANES];
  for (genvar i = 0; i < READ_LANES; i++) begin : gen_parameters
    nmllm_ram #(
        .WIDTH(48),
        .DEPTH(WORDS)
    ) u_ram (
        .clk,
        .write_enable (parameter_write && parameter_column[LANE_BITS-1:0] == LANE_BITS'(i)),
        .write_address(ADDRESS_BITS'(parameter_column >> LANE_BITS)),
        .write_data   (parameter_data),
        .read_enable  (read),
        .read_address (ADDRESS_BITS'(column >> LANE_BITS)),
        .read_data    (parameters[i])
    );
  end

  // Stages 1 to 3. Lane 0 is the first column of the step, in lane `offset` of its words; a step of more than four columns is a whole word.
  logic valid_1, valid_2, valid_3, valid_4, last_1, last_2, last_3, last_4;
  logic [LANE_BITS-1:0] offset;
  logic [LANE_BITS:0] count_1, count_2, count_3, count_4;
  logic signed [47:0] product[READ_LANES];
  logic signed [31:0] bias_2[READ_LANES], bias_3[READ_LANES];
  logic signed [49:0] scaled[READ_LANES];
  logic signed [31:0] value[READ_LANES];
  logic signed [8:0] shift;
  assign shift = 9'(output_shift) - 9'(signed'({1'b0, k_min}));

  function automatic logic signed [49:0] scale(input logic signed [47:0] x, input logic signed [8:0] n);
    if (n > 48) scale = '0;  // |x| < 2^47
    else if (n >= 0) scale = 50'(shift_right(64'(x), n[5:0]));
    else scale = 50'(saturate(64'(x) <<< (n < -16 ? 9'd16 : unsigned'(-n))));
  endfunction

  always_ff @(posedge clk) begin
    if (advance) begin
      valid_1 <= take;
      valid_2 <= valid_1;
      valid_3 <= valid_2;
      valid_4 <= valid_3;
      last_1  <= last_take;
      last_2  <= last_1;
      last_3  <= last_2;
      last_4  <= last_3;
      count_1 <= count;
      count_2 <= count_1;
      count_3 <= count_2;
      count_4 <= count_3;
      offset  <= column[LANE_BITS-1:0];
      if (valid_1) begin
        // verilator unroll_disable
        for (int i = 0; i < READ_LANES; i++) begin
          // Lanes without a column stand still: a step of values uses two of them.
          automatic logic used = i < int'(count_1);
          automatic logic [LANE_BITS-1:0] lane = LANE_BITS'(i) + (i < 4 ? offset : '0);
          product[i] <= 48'(signed'(used ? accumulators[lane] : '0)) * signed'({32'd0, parameters[lane][15:0]});
          bias_2[i]  <= used && has_bias ? parameters[lane][47:16] : '0;
        end
      end
      if (valid_2) begin
        // verilator unroll_disable
        for (int i = 0; i < READ_LANES; i++) scaled[i] <= scale(product[i], shift);
        bias_3 <= bias_2;
      end
      if (valid_3) begin
        // verilator unroll_disable
        for (int i = 0; i < READ_LANES; i++) value[i] <= saturate(64'(scaled[i]) + 64'(bias_3[i]));
      end
    end
    if (rst) {valid_1, valid_2, valid_3, valid_4} <= '0;
  end

  // Gate, stages 4 to 9: two pairs.
  logic gate_valid, gate_last, gate_single;
  logic [LANE_BITS:0] gate_count;
  logic signed [31:0] hidden[2];
  nmllm_output_gate u_gate (
      .clk,
      .rst,
      .advance,
      .gate_fraction,
      .hidden_fraction,
      .in_valid (valid_4 && gate),
      .in_last  (last_4),
      .in_single(count_4 <= 2),
      .in_gate  ('{value[0], value[2]}),
      .in_up    ('{value[1], value[3]}),
      .out_valid(gate_valid),
      .out_last (gate_last),
      .out_single(gate_single),
      .out_value(hidden)
  );
  assign gate_count = gate_single ? (LANE_BITS + 1)'(1) : (LANE_BITS + 1)'(2);

  // Arg-max, stages 4 and 5: the best lane, then the best so far.
  logic lane_valid, lane_last, best_valid, any_best;
  logic signed [31:0] lane_value, best_value;
  logic [31:0] position, lane_token, best_token;
  logic [LANE_BITS-1:0] winner;
  logic signed [31:0] winner_value;

  always_comb begin
    winner = '0;
    winner_value = value[0];
    if (valid_4 && argmax) begin
      for (int i = 1; i < ARGMAX_LANES; i++) begin
        if (i < int'(count_4) && value[i] > winner_value) begin
          winner = LANE_BITS'(i);
          winner_value = value[i];
        end
      end
    end
  end

  always_ff @(posedge clk) begin
    if (advance) begin
      lane_valid <= valid_4 && argmax;
      lane_last  <= last_4;
      best_valid <= lane_valid && lane_last;
      if (valid_4 && argmax) begin
        lane_value <= winner_value;
        lane_token <= position + 32'(winner);
        position   <= last_4 ? first_token : position + 32'(ARGMAX_LANES);
      end
      if (lane_valid) begin
        any_best <= !lane_last;
        if (!any_best || lane_value > best_value) begin
          best_value <= lane_value;
          best_token <= lane_token;
        end
      end
    end
    if (start) position <= first_token;
    if (rst) begin
      lane_valid <= 1'b0;
      best_valid <= 1'b0;
      any_best   <= 1'b0;
    end
  end

  // Flits.
  logic [15:0] index;
  always_comb begin
    out_flit.route = route;
    if (argmax) begin
      out_valid = best_valid;
      done = best_valid && out_ready;
      out_flit.flag = 1'b0;
      out_flit.tag = region;
      out_flit.payload = {best_token, best_value};
    end else begin
      out_valid = gate ? gate_valid : valid_4;
      done = out_valid && out_ready && (gate ? gate_last : last_4);
      out_flit.flag = (gate ? gate_count : count_4) == 1;
      out_flit.tag = index;
      out_flit.payload = gate ? {hidden[1], hidden[0]} : {value[1], value[0]};
      if (out_flit.flag) out_flit.payload[63:32] = '0;
    end
  end

  always_ff @(posedge clk) begin
    if (out_valid && out_ready) index <= index + 16'd2;
    if (start) index <= first_output;
  end

`ifndef SYNTHESIS
  stable_output : assert property (@(posedge clk) disable iff (rst) out_valid && !out_ready |=> out_valid && $stable(out_flit))
  else $error("stable_output: a flit was withdrawn or changed before it was accepted");
`endif
endmodule

`default_nettype wire
