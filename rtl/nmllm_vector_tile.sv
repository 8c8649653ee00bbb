// Vector tile: one stage's residual stream, norms, rotary embedding, encoder and attention engines, run by a list of instructions
// (docs/reference/rtl.md, timing.md).
//
// An instruction starts in the cycle in which the one before it has ended; `receive` of what has arrived, and `send` in the last layer of a
// token without logits, take no cycle, so up to three entries of the list are looked at in one cycle.
//
// Register map (cfg_unit, cfg_address, cfg_data), between runs:
//   unit 1   0 route of the incoming residual    1 route of incoming credits    2 route of the outgoing residual or token
//            3 route of outgoing credits         4 hidden size N                5 {head stage[1], last layer[0]}
//            6 key/value heads                   7 words of the rotary table a position
//   unit 2   instructions: {source[51], route[50:35], base[34:19], size[18:4], operation[3:0]}; operations: 0 receive residual, 1 norm
//            (base: gains), 2 encode (base: stop prices; source 1: the attention output), 3 receive (size: flits), 4 rope, 5 kv-write, 6 attend,
//            7 add, 8 send, 9 send-token. The first entry is `receive residual`, the last one `send` or `send-token`
//   unit 3   parameters (gains and stop prices), unit 4 rotary table, unit 5 stop prices of the queries: address = word * LANES / 2 + pair,
//            data = two lanes of 32 bits
//   unit 6   norm   7 rope   8 kv-write   9 encoder   10 attention engine address[23:20]
//   unit 11  engine that owns the lanes of a word of the attention output, 4 bits a lane; address = word * ceil(LANES / 16) + part
//
// Flits: see rtl.md. A residual flit carries in tag[15] whether the token's logits are wanted.
`default_nettype none

module nmllm_vector_tile
  import nmllm_pkg::*;
#(
    parameter int unsigned HEAD_DIM = 16,
    parameter int unsigned GROUP = 4,
    parameter int unsigned SLOTS = 4,
    localparam int unsigned COUNTERS = 28
) (
    input  logic                      clk,
    input  logic                      rst,
    input  logic                      cfg_valid,
    input  logic  [ 3:0]              cfg_unit,
    input  logic  [23:0]              cfg_address,
    input  logic  [63:0]              cfg_data,
    input  logic                      in_valid,
    input  flit_t                     in_flit,
    output logic                      out_valid,
    input  logic                      out_ready,
    output flit_t                     out_flit,
    output logic  [63:0]              counters   [COUNTERS],
    output logic                      row_done    // the instructions of one token end with this cycle
);
  /* verilator no_inline_module */  // one C++ function for all instances
  localparam int unsigned L = VECTOR_LANES;
  localparam int unsigned E = ATTENTION_ENGINES;
  localparam int unsigned WORDS = VECTOR_MEMORY_BYTES / 4 / L;  // all vector memory; half parameters, a quarter residuals, a quarter work
  localparam int unsigned WORK_WORDS = WORDS / 4;
  localparam int unsigned PARAMETER_WORDS = WORDS / 2;
  localparam int unsigned RESIDUAL_WORDS = WORDS / 12;
  localparam int unsigned ADDRESS_BITS = $clog2(WORDS);
  localparam int unsigned WORK_BITS = $clog2(WORK_WORDS);
  localparam int unsigned PARAMETER_BITS = $clog2(PARAMETER_WORDS);
  localparam int unsigned RESIDUAL_BITS = $clog2(RESIDUAL_WORDS);
  localparam int unsigned TABLE_WORDS = KV_BYTES_PER_ENGINE / 16;
  localparam int unsigned TABLE_BITS = $clog2(TABLE_WORDS);
  localparam int unsigned LANE_BITS = $clog2(L);
  localparam int unsigned PAIR_BITS = LANE_BITS - 1;
  localparam int unsigned GROUPS = L / 2;
  localparam int unsigned OWNER_PARTS = (L + 15) / 16;
  localparam int unsigned INSTRUCTIONS = 32;
  localparam int unsigned ENGINE_BITS = E > 1 ? $clog2(E) : 1;

  typedef enum logic [3:0] {
    RECEIVE_RESIDUAL, NORM, ENCODE, RECEIVE, ROPE, KV_WRITE, ATTEND, ADD, SEND, SEND_TOKEN
  } operation_t;
  typedef struct packed {
    logic source;
    logic [15:0] route;
    logic [15:0] base;
    logic [14:0] size;
    logic [3:0] operation;
  } instruction_t;

  // configuration
  logic [ROUTE_BITS-1:0] residual_route_q, credit_in_route_q, out_route_q, credit_route_q;
  logic [14:0] hidden_q;
  logic head_q, last_layer_q;
  logic [7:0] kv_heads_q;
  logic [7:0] table_words_q;
  instruction_t program_q[INSTRUCTIONS];

  always_ff @(posedge clk) begin
    if (cfg_valid && cfg_unit == 4'd1) begin
      unique case (cfg_address[2:0])
        3'd0: residual_route_q <= cfg_data[ROUTE_BITS-1:0];
        3'd1: credit_in_route_q <= cfg_data[ROUTE_BITS-1:0];
        3'd2: out_route_q <= cfg_data[ROUTE_BITS-1:0];
        3'd3: credit_route_q <= cfg_data[ROUTE_BITS-1:0];
        3'd4: hidden_q <= cfg_data[14:0];
        3'd5: {head_q, last_layer_q} <= cfg_data[1:0];
        3'd6: kv_heads_q <= cfg_data[7:0];
        3'd7: table_words_q <= cfg_data[7:0];
      endcase
    end
    if (cfg_valid && cfg_unit == 4'd2) program_q[cfg_address[4:0]] <= instruction_t'(cfg_data[51:0]);
  end

  // ---------------------------------------------------------------- arriving flits
  logic residual_arrives, credit_arrives, value_arrives;
  assign residual_arrives = in_valid && in_flit.route == residual_route_q;
  assign credit_arrives = in_valid && in_flit.route == credit_in_route_q && !residual_arrives;
  assign value_arrives = in_valid && !residual_arrives && !credit_arrives;

  // Three residual buffers in a ring: the stream, then the slots in the order in which they fill.
  logic [1:0] stream_q, filling_q;  // buffer numbers
  logic [1:0] full_slots_q;
  logic [14:0] residual_left_q;  // flits of the vector that is arriving
  logic [2:0] wanted_q;  // of the token in each buffer
  logic residual_complete, take_residual;
  logic [1:0] stream_next;

  function automatic logic [1:0] following(input logic [1:0] buffer_number);
    following = buffer_number == 2'd2 ? 2'd0 : buffer_number + 2'd1;
  endfunction

  assign residual_complete = residual_arrives && (residual_left_q == 15'd1 || (residual_left_q == '0 && hidden_q <= 15'd2));
  assign stream_next = take_residual ? following(stream_q) : stream_q;

  always_ff @(posedge clk) begin
    if (rst) begin
      stream_q <= 2'd2;
      filling_q <= 2'd0;
      full_slots_q <= '0;
      residual_left_q <= '0;
    end else begin
      stream_q <= stream_next;
      full_slots_q <= full_slots_q + 2'(residual_complete) - 2'(take_residual);
      if (residual_arrives) begin
        // The counter is loaded by the first flit, so that it needs no start.
        residual_left_q <= residual_left_q == '0 ? ((hidden_q + 15'd1) >> 1) - 15'd1 : residual_left_q - 15'd1;
        if (residual_complete) filling_q <= following(filling_q);
        if (residual_left_q == '0) wanted_q[filling_q] <= in_flit.tag[15];
      end
    end
  end

  logic [15:0] value_flits_q;  // arrived for the `receive` to come
  logic take_values;
  logic [15:0] receive_size;
  always_ff @(posedge clk) begin
    if (rst) value_flits_q <= '0;
    else value_flits_q <= value_flits_q + 16'(value_arrives) - (take_values ? receive_size : 16'd0);
  end

  // The head's choice: largest logit, lowest index among equals.
  logic best_valid_q;
  logic signed [31:0] best_logit_q;
  logic [31:0] best_index_q;
  logic send_token_pushed;
  logic signed [31:0] arriving_logit;
  assign arriving_logit = in_flit.payload[31:0];
  always_ff @(posedge clk) begin
    if (rst || send_token_pushed) best_valid_q <= 1'b0;
    else if (value_arrives && head_q) begin
      best_valid_q <= 1'b1;
      if (!best_valid_q || arriving_logit > best_logit_q || (arriving_logit == best_logit_q && in_flit.payload[63:32] < best_index_q)) begin
        best_logit_q <= arriving_logit;
        best_index_q <= in_flit.payload[63:32];
      end
    end
  end

  // ---------------------------------------------------------------- sequencer
  logic busy_q;
  logic [4:0] pc_q, pc_start;
  instruction_t current, running_q;
  logic skip_send, start, finish;
  logic [14:0] position_q;  // of the token under way, from 0
  logic [14:0] position;
  logic started_q;
  logic stream_wanted;
  logic [3:0] credits_q;
  logic norm_done, encode_done, rope_done, kv_done, attend_done, add_done, send_done;

  assign stream_wanted = wanted_q[stream_q];
  always_comb begin
    pc_start = pc_q;
    skip_send = program_q[pc_start].operation == SEND && last_layer_q && !stream_wanted && !busy_q;
    if (skip_send) pc_start = '0;
    take_residual = !busy_q && program_q[pc_start].operation == RECEIVE_RESIDUAL && full_slots_q != '0;
    if (take_residual) pc_start = 5'd1;
    receive_size = 16'(program_q[pc_start].size);
    take_values = !busy_q && program_q[pc_start].operation == RECEIVE && value_flits_q >= receive_size;
    if (take_values) pc_start = pc_start + 5'd1;
    current = busy_q ? running_q : program_q[pc_start];
  end

  logic executable;
  assign executable = current.operation != RECEIVE_RESIDUAL && current.operation != RECEIVE;
  assign start = !busy_q && executable && !rst;
  assign position = position_q + 15'(take_residual && started_q);

  // Cycles of `send`: it waits for a credit, then pushes; both may be in the first cycle.
  logic send_active, send_token_active;
  assign send_active = !rst && current.operation == SEND && !(skip_send && !busy_q);
  assign send_token_active = !rst && current.operation == SEND_TOKEN;

  always_comb begin
    unique case (operation_t'(current.operation))
      NORM: finish = norm_done;
      ENCODE: finish = encode_done;
      ROPE: finish = rope_done;
      KV_WRITE: finish = kv_done;
      ATTEND: finish = attend_done;
      ADD: finish = add_done;
      SEND: finish = send_done;
      SEND_TOKEN: finish = send_token_pushed;
      default: finish = 1'b0;
    endcase
  end

  logic [4:0] pc_running_q;
  always_ff @(posedge clk) begin
    if (rst) begin
      busy_q <= 1'b0;
      pc_q <= '0;
      position_q <= '0;
      started_q <= 1'b0;
    end else begin
      position_q <= position;
      started_q <= started_q | take_residual;
      if (start) running_q <= current;
      if (finish && (start || busy_q)) begin
        busy_q <= 1'b0;
        pc_q <= current.operation == SEND || current.operation == SEND_TOKEN ? 5'd0 : (busy_q ? pc_running_q : pc_start) + 5'd1;
      end else if (start) begin
        busy_q <= 1'b1;
        pc_running_q <= pc_start;
      end else if (!busy_q) begin
        pc_q <= pc_start;
      end
    end
  end
  assign row_done = skip_send || (finish && (send_active || send_token_active));

  // ---------------------------------------------------------------- memories
  // Work memory: the vector that the instructions make and consume, at word 0.
  logic [L-1:0] work_mask;
  logic [WORK_BITS-1:0] work_write_address, work_read_address;
  logic [L-1:0][31:0] work_write_data, work_data;
  logic work_read;
  nmllm_lane_ram #(.LANES(L), .DEPTH(WORK_WORDS)) work (
      .clk, .write_mask(work_mask), .write_address(work_write_address), .write_data(work_write_data),
      .read_enable(work_read), .read_address(work_read_address), .read_data(work_data));

  logic [L-1:0] parameter_mask;
  logic parameter_read;
  logic [PARAMETER_BITS-1:0] parameter_address;
  logic [L-1:0][31:0] parameter_data, cfg_lanes;
  // Addresses are wider than the memories: a vector does not fill them, which the assertions of the memories check.
  // verilator lint_off UNUSEDSIGNAL
  logic [23:0] cfg_word;
  // verilator lint_on UNUSEDSIGNAL
  logic [L-1:0] cfg_mask;
  assign cfg_lanes = {(L / 2){cfg_data}};
  assign cfg_word = cfg_address >> PAIR_BITS;
  always_comb begin
    for (int lane = 0; lane < int'(L); lane++) cfg_mask[lane] = PAIR_BITS'(lane / 2) == cfg_address[PAIR_BITS-1:0];
  end
  assign parameter_mask = cfg_mask & {L{cfg_valid && cfg_unit == 4'd3}};
  nmllm_lane_ram #(.LANES(L), .DEPTH(PARAMETER_WORDS)) parameters (
      .clk, .write_mask(parameter_mask), .write_address(cfg_word[PARAMETER_BITS-1:0]), .write_data(cfg_lanes),
      .read_enable(parameter_read), .read_address(parameter_address), .read_data(parameter_data));

  logic table_read;
  logic [TABLE_BITS-1:0] table_address;
  logic [L-1:0][31:0] table_data;
  nmllm_lane_ram #(.LANES(L), .DEPTH(TABLE_WORDS)) rotary (
      .clk, .write_mask(cfg_mask & {L{cfg_valid && cfg_unit == 4'd4}}), .write_address(cfg_word[TABLE_BITS-1:0]), .write_data(cfg_lanes),
      .read_enable(table_read), .read_address(table_address), .read_data(table_data));

  // Residual buffers.
  logic residual_read;
  logic [RESIDUAL_BITS-1:0] residual_address;
  logic [L-1:0][31:0] residual_data, residual_datas[3], residual_write_data[3];
  logic [L-1:0] residual_mask[3];
  logic [RESIDUAL_BITS-1:0] residual_write_address[3];
  for (genvar b = 0; b < 3; b++) begin : g_residual
    nmllm_lane_ram #(.LANES(L), .DEPTH(RESIDUAL_WORDS)) buffer_ram (
        .clk, .write_mask(residual_mask[b]), .write_address(residual_write_address[b]), .write_data(residual_write_data[b]),
        .read_enable(residual_read && stream_next == 2'(b)), .read_address(residual_address), .read_data(residual_datas[b]));
  end
  assign residual_data = residual_datas[stream_q];

  // Lanes of an arriving pair of values.
  logic [L-1:0] arriving_mask;
  logic [L-1:0][31:0] arriving_lanes;
  assign arriving_lanes = {(L / 2){in_flit.payload}};
  always_comb begin
    for (int lane = 0; lane < int'(L); lane++) begin
      arriving_mask[lane] = PAIR_BITS'(lane / 2) == in_flit.tag[LANE_BITS-1:1] && !(lane % 2 == 1 && in_flit.flag);
    end
  end

  // ---------------------------------------------------------------- units
  logic norm_residual_read, norm_gain_read, norm_write;
  // verilator lint_off UNUSEDSIGNAL
  logic [ADDRESS_BITS-1:0] norm_residual_address, norm_gain_address, norm_write_address;
  // verilator lint_on UNUSEDSIGNAL
  logic [L-1:0][31:0] norm_write_data;
  logic [47:0] norm_elements, square_roots, norm_divisions, norm_words_read, norm_words_written;
  nmllm_norm #(.ADDRESS_BITS(ADDRESS_BITS)) norm (
      .clk, .rst, .cfg_valid(cfg_valid && cfg_unit == 4'd6), .cfg_address(cfg_address[0]), .cfg_data,
      .start(start && current.operation == NORM), .size(current.size), .residual_base('0), .gain_base(current.base[ADDRESS_BITS-1:0]),
      .output_base('0), .done(norm_done), .residual_enable(norm_residual_read), .residual_address(norm_residual_address), .residual_data,
      .gain_enable(norm_gain_read), .gain_address(norm_gain_address), .gain_data(parameter_data), .write_enable(norm_write),
      .write_address(norm_write_address), .write_data(norm_write_data), .count_elements(norm_elements), .count_square_roots(square_roots),
      .count_divisions(norm_divisions), .count_words_read(norm_words_read), .count_words_written(norm_words_written));

  logic rope_read, rope_write;
  // verilator lint_off UNUSEDSIGNAL
  logic [ADDRESS_BITS-1:0] rope_read_address, rope_write_address;
  // verilator lint_on UNUSEDSIGNAL
  logic [L-1:0][31:0] rope_write_data;
  logic [GROUPS-1:0] maximum_valid;
  logic [9:0] maximum_head;
  logic [GROUPS-1:0][31:0] maximum;
  logic [47:0] rope_elements, rope_maximum_elements, rope_words_read, rope_words_written, table_entries;
  nmllm_rope #(.ADDRESS_BITS(ADDRESS_BITS), .TABLE_ADDRESS_BITS(TABLE_BITS)) rope (
      .clk, .rst, .cfg_valid(cfg_valid && cfg_unit == 4'd7), .cfg_address(cfg_address[0]), .cfg_data,
      .start(start && current.operation == ROPE), .size(current.size), .vector_base('0), .table_base(TABLE_BITS'(position * 15'(table_words_q))),
      .done(rope_done), .read_enable(rope_read), .read_address(rope_read_address), .read_data(work_data), .table_enable(table_read),
      .table_address, .table_data, .write_enable(rope_write), .write_address(rope_write_address), .write_data(rope_write_data),
      .maximum_valid, .maximum_head, .maximum, .count_elements(rope_elements), .count_maximum_elements(rope_maximum_elements),
      .count_words_read(rope_words_read), .count_words_written(rope_words_written), .count_table_entries(table_entries));

  localparam int unsigned KV_VECTOR_BITS = 6;
  localparam int unsigned KV_WORD_BITS = $clog2(HEAD_DIM / L > 1 ? HEAD_DIM / L : 2);
  logic kv_read;
  // verilator lint_off UNUSEDSIGNAL
  logic [ADDRESS_BITS-1:0] kv_read_address;
  // verilator lint_on UNUSEDSIGNAL
  logic [GROUPS-1:0] kv_valid;
  logic [GROUPS-1:0][KV_VECTOR_BITS-1:0] kv_vector;
  logic [KV_WORD_BITS-1:0] kv_word;
  logic [L-1:0][7:0] kv_data;
  logic [GROUPS-1:0][4:0] kv_exponent;
  logic [47:0] kv_elements, kv_vectors;
  nmllm_kv_write #(.ADDRESS_BITS(ADDRESS_BITS), .MAX_HEAD_DIM(HEAD_DIM)) kv_write (
      .clk, .rst, .cfg_valid(cfg_valid && cfg_unit == 4'd8), .cfg_address(cfg_address[5:0]), .cfg_data,
      .start(start && current.operation == KV_WRITE), .size(current.size), .base(ADDRESS_BITS'(current.base >> LANE_BITS)),
      .offset(current.base[LANE_BITS-1:0]), .done(kv_done), .read_enable(kv_read), .read_address(kv_read_address), .read_data(work_data),
      .kv_valid, .kv_vector, .kv_word, .kv_data, .kv_exponent, .count_elements(kv_elements), .count_vectors(kv_vectors));

  logic encode_read, stop_read, encode_write, spike_valid, spike_ready, encode_attention_q, encode_attention;
  // verilator lint_off UNUSEDSIGNAL
  logic [ADDRESS_BITS-1:0] encode_read_address, stop_address, encode_write_address;
  // verilator lint_on UNUSEDSIGNAL
  logic [L-1:0][31:0] encode_read_data, encode_write_data, attention_data;
  flit_t spike_flit;
  logic [47:0] encode_maximum_elements, encode_elements, encode_words_read, encode_words_written, bank_bits, spikes, spike_flits;
  nmllm_encoder #(.ADDRESS_BITS(ADDRESS_BITS)) encoder (
      .clk, .rst, .cfg_valid(cfg_valid && cfg_unit == 4'd9), .cfg_address(cfg_address[0]), .cfg_data,
      .start(start && current.operation == ENCODE), .size(current.size), .vector_base('0), .stop_base(current.base[ADDRESS_BITS-1:0]),
      .route(current.route[ROUTE_BITS-1:0]), .done(encode_done), .read_enable(encode_read), .read_address(encode_read_address),
      .read_data(encode_read_data), .stop_enable(stop_read), .stop_address, .stop_data(parameter_data), .write_enable(encode_write),
      .write_address(encode_write_address), .write_data(encode_write_data), .spike_valid, .spike_ready, .spike_flit,
      .count_maximum_elements(encode_maximum_elements), .count_encode_elements(encode_elements), .count_words_read(encode_words_read),
      .count_words_written(encode_words_written), .count_bank_bits(bank_bits), .count_spikes(spikes), .count_flits(spike_flits));
  assign encode_attention = current.operation == ENCODE && current.source;
  always_ff @(posedge clk) encode_attention_q <= encode_attention;
  assign encode_read_data = encode_attention_q ? attention_data : work_data;

  logic add_read, add_write;
  // verilator lint_off UNUSEDSIGNAL
  logic [ADDRESS_BITS-1:0] add_residual_address, add_operand_address, add_write_address;
  // verilator lint_on UNUSEDSIGNAL
  logic [L-1:0][31:0] add_write_data;
  logic [47:0] add_elements, add_words_read, add_words_written;
  nmllm_add #(.ADDRESS_BITS(ADDRESS_BITS)) add (
      .clk, .rst, .start(start && current.operation == ADD), .size(current.size), .residual_base('0), .operand_base('0), .done(add_done),
      .read_enable(add_read), .residual_address(add_residual_address), .residual_data, .operand_address(add_operand_address),
      .operand_data(work_data), .write_enable(add_write), .write_address(add_write_address), .write_data(add_write_data),
      .count_elements(add_elements), .count_words_read(add_words_read), .count_words_written(add_words_written));

  // ---------------------------------------------------------------- ports of the memories
  logic send_read;
  logic [RESIDUAL_BITS-1:0] send_address;
  always_comb begin
    work_read = rope_read | kv_read | (encode_read & !encode_attention) | add_read;
    work_read_address = WORK_BITS'(rope_read ? rope_read_address : kv_read ? kv_read_address : add_read ? add_operand_address : encode_read_address);
    work_mask = '0;
    work_write_address = WORK_BITS'(in_flit.tag[14:LANE_BITS]);
    work_write_data = arriving_lanes;
    if (value_arrives && !head_q) work_mask = arriving_mask;
    if (norm_write) begin
      work_mask = '1;
      work_write_address = WORK_BITS'(norm_write_address);
      work_write_data = norm_write_data;
    end
    if (rope_write) begin
      work_mask = '1;
      work_write_address = WORK_BITS'(rope_write_address);
      work_write_data = rope_write_data;
    end
    if (encode_write && !encode_attention) begin
      work_mask = '1;
      work_write_address = WORK_BITS'(encode_write_address);
      work_write_data = encode_write_data;
    end
    parameter_read = norm_gain_read | stop_read;
    parameter_address = PARAMETER_BITS'(norm_gain_read ? norm_gain_address : stop_address);
    residual_read = norm_residual_read | add_read | send_read;
    residual_address = RESIDUAL_BITS'(norm_residual_read ? norm_residual_address : add_read ? add_residual_address : ADDRESS_BITS'(send_address));
    for (int b = 0; b < 3; b++) begin
      residual_mask[b] = arriving_mask & {L{residual_arrives && filling_q == 2'(b)}};
      residual_write_address[b] = RESIDUAL_BITS'(in_flit.tag[14:LANE_BITS]);
      residual_write_data[b] = arriving_lanes;
      if (add_write && stream_q == 2'(b)) begin
        residual_mask[b] = '1;
        residual_write_address[b] = RESIDUAL_BITS'(add_write_address);
        residual_write_data[b] = add_write_data;
      end
    end
  end

  // ---------------------------------------------------------------- attention
  logic [31:0] maxima_q[SLOTS*E*GROUP];  // of each query head
  logic [7:0] group_q;  // query heads of a key/value head
  always_ff @(posedge clk) begin
    if (cfg_valid && cfg_unit == 4'd10 && cfg_address[19:0] == 20'd1) group_q <= cfg_data[7:0];
    for (int g = 0; g < int'(GROUPS); g++) begin
      if (maximum_valid[g]) maxima_q[$clog2(SLOTS*E*GROUP)'(maximum_head+10'(g))] <= maximum[g];
    end
  end

  logic [E-1:0] engine_running_q, engine_start, engine_done, engine_last, engine_used;
  logic [47:0] engine_counts[E][13];
  logic [L-1:0][31:0] bank_datas[E];
  localparam int unsigned BANK_WORDS = WORK_WORDS;
  localparam int unsigned BANK_BITS = WORK_BITS;
  localparam int unsigned SLOT_BITS = SLOTS > 1 ? $clog2(SLOTS) : 1;
  localparam int unsigned ROWS_HELD = KV_BYTES_PER_ENGINE / (2 * HEAD_DIM + 1);
  localparam int unsigned CONTEXT = ROWS_HELD < 8192 ? ROWS_HELD : 8192;
  localparam int unsigned CONTEXT_BITS = $clog2(CONTEXT + 1);
  localparam int unsigned ENGINE_WORD_BITS = HEAD_DIM > 2 * L ? $clog2(HEAD_DIM / L) : 1;

  for (genvar e = 0; e < int'(E); e++) begin : g_engine
    logic [SLOT_BITS-1:0] slot_q, slot;
    logic [GROUP-1:0][31:0] group_maximum;
    logic [7:0] kv_head;
    logic row_valid, row_is_value;
    logic [SLOT_BITS-1:0] row_slot;
    logic [4:0] row_exponent;
    logic [L-1:0][7:0] row_data;
    logic engine_read, engine_write;
    // verilator lint_off UNUSEDSIGNAL
    logic engine_write_output;  // outputs and remainders go to the same words
    logic [14:0] engine_read_word, engine_write_word;
    // verilator lint_on UNUSEDSIGNAL
    logic [L-1:0] engine_mask;
    logic [L-1:0][31:0] engine_write_data, stop_data;

    // Its key/value heads are e, e + E, ..; they follow each other.
    assign slot = start && current.operation == ATTEND ? '0 : slot_q;
    assign kv_head = 8'(slot) * 8'(E) + 8'(e);
    assign engine_used[e] = kv_heads_q > 8'(e);
    assign engine_last[e] = 16'(kv_head) + 16'(E) >= 16'(kv_heads_q);
    assign engine_start[e] = engine_used[e] && current.operation == ATTEND && (start || (busy_q && next_q));
    logic next_q;
    always_ff @(posedge clk) begin
      next_q <= engine_done[e] && !engine_last[e] && !rst;
      if (engine_done[e]) slot_q <= slot + 1'b1;
      else if (start) slot_q <= '0;
      if (rst) engine_running_q[e] <= 1'b0;
      else if (engine_start[e]) engine_running_q[e] <= 1'b1;
      else if (engine_done[e] && engine_last[e]) engine_running_q[e] <= 1'b0;
    end
    always_comb begin
      for (int i = 0; i < int'(GROUP); i++) group_maximum[i] = maxima_q[$clog2(SLOTS*E*GROUP)'(10'(kv_head)*10'(group_q)+10'(i))];
    end

    // Of the vectors in a word of keys or values, the one of this engine.
    always_comb begin
      row_valid = 1'b0;
      row_is_value = 1'b0;
      row_slot = '0;
      row_exponent = '0;
      row_data = '0;
      for (int g = 0; g < int'(GROUPS); g++) begin
        automatic logic is_value = 8'(kv_vector[g]) >= kv_heads_q;
        automatic logic [7:0] head = 8'(kv_vector[g]) - (is_value ? kv_heads_q : 8'd0);
        if (kv_valid[g] && head % 8'(E) == 8'(e)) begin
          row_valid = 1'b1;
          row_is_value = is_value;
          row_slot = SLOT_BITS'(head / 8'(E));
          row_exponent = kv_exponent[g];
          row_data = kv_data >> (8 * ((32'(g) * 32'(row_lanes_q)) % 32'(L)));
        end
      end
    end

    nmllm_attention #(.HEAD_DIM(HEAD_DIM), .GROUP(GROUP), .SLOTS(SLOTS)) engine (
        .clk, .rst, .cfg_valid(cfg_valid && cfg_unit == 4'd10 && cfg_address[23:20] == 4'(e)), .cfg_address({4'd0, cfg_address[19:0]}), .cfg_data,
        .kv_valid(row_valid), .kv_is_value(row_is_value), .kv_slot(row_slot), .kv_position(CONTEXT_BITS'(position_q)),
        .kv_word(ENGINE_WORD_BITS'(kv_word)), .kv_exponent(row_exponent), .kv_data(row_data), .start(engine_start[e]), .slot,
        .context_size(CONTEXT_BITS'(position_q + 15'd1)), .maximum(group_maximum), .done(engine_done[e]), .read_enable(engine_read),
        .read_word(engine_read_word), .query_data(bank_datas[e]), .stop_data, .write_enable(engine_write), .write_output(engine_write_output),
        .write_word(engine_write_word), .write_mask(engine_mask), .write_data(engine_write_data),
        .count_encode_elements(engine_counts[e][0]), .count_query_spikes(engine_counts[e][1]), .count_score_operations(engine_counts[e][2]),
        .count_softmax_elements(engine_counts[e][3]), .count_maximum_elements(engine_counts[e][4]),
        .count_probability_spikes(engine_counts[e][5]), .count_value_operations(engine_counts[e][6]), .count_divisions(engine_counts[e][7]),
        .count_attention_values(engine_counts[e][8]), .count_kv_bits_read(engine_counts[e][9]), .count_kv_bits_written(engine_counts[e][10]),
        .count_score_bits_read(engine_counts[e][11]), .count_score_bits_written(engine_counts[e][12]));

    // The engine's copy of the queries, where its outputs go too; the encoder reads the outputs and leaves its remainders in all copies.
    logic [L-1:0] bank_mask;
    logic [BANK_BITS-1:0] bank_write_address, bank_read_address;
    logic [L-1:0][31:0] bank_write_data;
    always_comb begin
      bank_mask = {L{rope_write}};
      bank_write_address = BANK_BITS'(rope_write_address);
      bank_write_data = rope_write_data;
      if (encode_write && encode_attention) begin
        bank_mask = '1;
        bank_write_address = BANK_BITS'(encode_write_address);
        bank_write_data = encode_write_data;
      end
      if (engine_write) begin
        bank_mask = engine_mask;
        bank_write_address = BANK_BITS'(engine_write_word);
        bank_write_data = engine_write_data;
      end
      bank_read_address = engine_read ? BANK_BITS'(engine_read_word) : BANK_BITS'(encode_read_address);
    end
    nmllm_lane_ram #(.LANES(L), .DEPTH(BANK_WORDS)) queries (
        .clk, .write_mask(bank_mask), .write_address(bank_write_address), .write_data(bank_write_data),
        .read_enable(engine_read | (encode_read & encode_attention)), .read_address(bank_read_address), .read_data(bank_datas[e]));
    nmllm_lane_ram #(.LANES(L), .DEPTH(BANK_WORDS)) query_stops (
        .clk, .write_mask(cfg_mask & {L{cfg_valid && cfg_unit == 4'd5}}), .write_address(cfg_word[BANK_BITS-1:0]), .write_data(cfg_lanes),
        .read_enable(engine_read), .read_address(BANK_BITS'(engine_read_word)), .read_data(stop_data));
  end

  logic [7:0] row_lanes_q;  // lanes from one vector of a word to the next
  always_ff @(posedge clk) begin
    if (cfg_valid && cfg_unit == 4'd10 && cfg_address[19:0] == 20'd0) row_lanes_q <= cfg_data[7:0] > 8'(L) ? 8'(L) : cfg_data[7:0];
  end
  assign attend_done = busy_q && current.operation == ATTEND && (engine_running_q & ~(engine_done & engine_last)) == '0
      && |(engine_done & engine_last);

  logic [15:0][3:0] owners_q[BANK_WORDS*OWNER_PARTS];
  logic [OWNER_PARTS*16-1:0][3:0] owner;
  always_ff @(posedge clk) begin
    if (cfg_valid && cfg_unit == 4'd11) owners_q[cfg_address[$clog2(BANK_WORDS*OWNER_PARTS)-1:0]] <= cfg_data;
    for (int part = 0; part < int'(OWNER_PARTS); part++) begin
      if (encode_read) owner[16*part+:16] <= owners_q[$clog2(BANK_WORDS*OWNER_PARTS)'(32'(BANK_BITS'(encode_read_address))*OWNER_PARTS+part)];
    end
  end
  always_comb begin
    for (int lane = 0; lane < int'(L); lane++) attention_data[lane] = bank_datas[ENGINE_BITS'(owner[lane])][lane];
  end

  // ---------------------------------------------------------------- injection: credits, then vectors and tokens, then spikes
  logic [1:0] credits_due_q;
  logic credit_valid, send_valid, vector_valid;
  flit_t vector_flit;
  logic [14:0] send_element_q;
  logic send_granted_q, send_grant, send_last;

  assign credit_valid = credits_due_q != '0 || take_residual;
  assign send_grant = send_active && !send_granted_q && credits_q != '0;
  assign send_valid = send_active && (send_granted_q || credits_q != '0);
  assign vector_valid = send_valid || send_token_active;
  assign send_last = send_element_q + 15'd2 >= current.size;
  always_comb begin
    vector_flit = '0;
    vector_flit.route = out_route_q;
    if (send_token_active) begin
      vector_flit.payload = 64'(best_index_q);
    end else begin
      vector_flit.flag = send_last && current.size[0];
      vector_flit.tag = {stream_wanted, send_element_q};
      vector_flit.payload = {residual_data[{send_element_q[LANE_BITS-1:1], 1'b1}], residual_data[{send_element_q[LANE_BITS-1:1], 1'b0}]};
      if (vector_flit.flag) vector_flit.payload[63:32] = '0;
    end
    out_valid = credit_valid || vector_valid || spike_valid;
    if (credit_valid) begin
      out_flit = '0;
      out_flit.route = credit_route_q;
    end else begin
      out_flit = vector_valid ? vector_flit : spike_flit;
    end
  end
  assign spike_ready = out_ready && !credit_valid && !vector_valid;
  logic vector_pushed;
  assign vector_pushed = vector_valid && !credit_valid && out_ready;
  assign send_done = send_valid && vector_pushed && send_last;
  assign send_token_pushed = send_token_active && vector_pushed;
  // The first word is read while the addition ends, the next one with the last pair of a word; the memory keeps it until then.
  assign send_read = (add_done && program_q[pc_running_q+5'd1].operation == SEND)
      || (send_active && vector_pushed && send_element_q[LANE_BITS-1:1] == '1);
  assign send_address = add_done ? '0 : RESIDUAL_BITS'(send_element_q >> LANE_BITS) + 1'b1;

  always_ff @(posedge clk) begin
    if (rst) begin
      credits_due_q <= '0;
      credits_q <= 4'd2;
      send_granted_q <= 1'b0;
      send_element_q <= '0;
    end else begin
      credits_due_q <= credits_due_q + 2'(take_residual) - 2'(credit_valid && out_ready);
      credits_q <= credits_q + 4'(credit_arrives) - 4'(send_grant);
      send_granted_q <= send_valid && !send_done;
      if (send_done) send_element_q <= '0;
      else if (send_valid && vector_pushed) send_element_q <= send_element_q + 15'd2;
    end
  end

  // ---------------------------------------------------------------- counters (timing.md); bits of memories in bits
  logic [63:0] arrived_values_q, sent_values_q, token_values_q;
  always_ff @(posedge clk) begin
    if (rst) begin
      arrived_values_q <= '0;
      sent_values_q <= '0;
      token_values_q <= '0;
    end else begin
      arrived_values_q <= arrived_values_q + (residual_arrives || value_arrives ? (in_flit.flag ? 64'd1 : 64'd2) : 64'd0);
      if (send_done) sent_values_q <= sent_values_q + 64'(current.size);
      if (take_values && head_q) token_values_q <= token_values_q + 2 * 64'(receive_size);
    end
  end

  function automatic logic [63:0] engine_sum(input logic [47:0] counts[E][13], input logic [3:0] which);
    engine_sum = '0;
    for (int e = 0; e < int'(E); e++) engine_sum += 64'(counts[e][which]);
  endfunction

  always_comb begin
    counters[0] = 64'(norm_elements);
    counters[1] = 64'(square_roots);
    counters[2] = 64'(norm_divisions) + engine_sum(engine_counts, 4'd7);
    counters[3] = 64'(norm_elements) + 64'(encode_maximum_elements) + 64'(rope_maximum_elements) + 64'(kv_elements)
        + engine_sum(engine_counts, 4'd4) + (token_values_q >> 1);
    counters[4] = 64'(encode_elements) + engine_sum(engine_counts, 4'd0);
    counters[5] = 64'(add_elements);
    counters[6] = 64'(rope_elements);
    counters[7] = engine_sum(engine_counts, 4'd1);
    counters[8] = engine_sum(engine_counts, 4'd5);
    counters[9] = engine_sum(engine_counts, 4'd2);
    counters[10] = engine_sum(engine_counts, 4'd3);
    counters[11] = engine_sum(engine_counts, 4'd6);
    counters[12] = engine_sum(engine_counts, 4'd8);
    counters[13] = 32 * (64'(norm_words_read) + 64'(rope_words_read) + 64'(kv_elements) + 64'(encode_words_read) + 64'(add_words_read)
        + 2 * engine_sum(engine_counts, 4'd0) + sent_values_q + token_values_q);
    counters[14] = 32 * (64'(norm_words_written) + 64'(rope_words_written) + 64'(encode_words_written) + 64'(add_words_written)
        + engine_sum(engine_counts, 4'd0) + engine_sum(engine_counts, 4'd8) + arrived_values_q);
    counters[15] = 64'(bank_bits);
    counters[16] = 16 * 64'(table_entries);
    counters[17] = engine_sum(engine_counts, 4'd9);
    counters[18] = engine_sum(engine_counts, 4'd10);
    counters[19] = engine_sum(engine_counts, 4'd11);
    counters[20] = engine_sum(engine_counts, 4'd12);
    counters[21] = 64'(spikes);
    counters[22] = 64'(spike_flits);
    counters[23] = 64'(kv_vectors);
    for (int i = 24; i < int'(COUNTERS); i++) counters[i] = '0;
  end

`ifndef SYNTHESIS
  one_instruction : assert property (@(posedge clk) disable iff (rst) $onehot0({norm_write, rope_write, encode_write, value_arrives && !head_q}))
  else $error("one_instruction: two units write the work memory in one cycle");
  slots_free : assert property (@(posedge clk) disable iff (rst) residual_arrives |-> full_slots_q < 2'd2 || take_residual)
  else $error("slots_free: a residual arrives and both slots are full");
  credits_bounded : assert property (@(posedge clk) disable iff (rst) credits_q <= 4'd2)
  else $error("credits_bounded: more credits than slots");
`endif
endmodule

`default_nettype wire
