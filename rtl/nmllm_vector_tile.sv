// Vector tile: one stage's residual stream, norms, rotary embedding, encoder and attention engines, run by a list of instructions
// (docs/reference/rtl/vector-tile.md, timing.md).
//
// Register map (cfg_unit, cfg_address, cfg_data), between runs:
//   unit 1   0 route of the incoming residual    1 route of incoming credits    2 route of the outgoing residual or token
//            3 route of outgoing credits         4 hidden size N                5 {head stage[1], last layer[0]}
//            6 key/value heads                   7 words of the rotary table a position
//            8 number of the stage's last site          9 tokens of a sequence's part of the key/value memories
//   unit 2   instructions (nmllm_sequencer)
//   unit 3   parameters (gains, stop prices and key offsets), unit 4 rotary table, unit 5 stop prices of the queries: address = word * LANES / 2 + pair,
//            data = two lanes of 32 bits
//   unit 6   norm   7 rope   8 kv-write   9 encoder   10 attention engine address[23:20]
//   unit 11  engine that owns the lanes of a word of the attention output, 4 bits per lane; address = word * ceil(LANES / 16) + part
//
// Flits: see docs/reference/rtl/index.md.
`default_nettype none

module nmllm_vector_tile
  import nmllm_pkg::*;
#(
    parameter int unsigned HEAD_DIM = 16,
    parameter int unsigned GROUP = 4,
    parameter int unsigned SLOTS = 4,
    parameter int unsigned PHASES = MAX_PHASES,  // of a train
    localparam int unsigned COUNTERS = 24
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
    output logic                      row_done,   // the instructions of one token end with this cycle, for verification
    // power (nmllm_tile_switch)
    output order_t                    orders,
    output logic                      work_done,
    // verilator lint_off UNUSEDSIGNAL
    input  logic                      asleep      // for verification
    // verilator lint_on UNUSEDSIGNAL
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
  localparam int unsigned ENGINE_BITS = E > 1 ? $clog2(E) : 1;
  localparam int unsigned PLACE_BITS = $clog2(KV_BYTES_PER_ENGINE / (2 * HEAD_DIM + 1));  // of the tokens that an engine holds

  // configuration
  logic [ROUTE_BITS-1:0] residual_route_q, credit_in_route_q, out_route_q, credit_route_q;
  logic [14:0] hidden_q;
  logic head_q, last_layer_q;
  logic [7:0] kv_heads_q;
  logic [7:0] table_words_q;
  logic [3:0] last_site_q;
  logic [PLACE_BITS-1:0] part_q;

  always_ff @(posedge clk) begin
    if (cfg_valid && cfg_unit == 4'd1) begin
      unique case (cfg_address[3:0])
        4'd0: residual_route_q <= cfg_data[ROUTE_BITS-1:0];
        4'd1: credit_in_route_q <= cfg_data[ROUTE_BITS-1:0];
        4'd2: out_route_q <= cfg_data[ROUTE_BITS-1:0];
        4'd3: credit_route_q <= cfg_data[ROUTE_BITS-1:0];
        4'd4: hidden_q <= cfg_data[14:0];
        4'd5: {head_q, last_layer_q} <= cfg_data[1:0];
        4'd6: kv_heads_q <= cfg_data[7:0];
        4'd7: table_words_q <= cfg_data[7:0];
        4'd8: last_site_q <= cfg_data[3:0];
        4'd9: part_q <= cfg_data[PLACE_BITS-1:0];
        default: ;
      endcase
    end
  end

  // ---------------------------------------------------------------- arriving flits
  logic residual_arrives, credit_arrives, value_arrives;
  assign residual_arrives = in_valid && in_flit.route == residual_route_q;
  assign credit_arrives = in_valid && in_flit.route == credit_in_route_q && !residual_arrives;
  assign value_arrives = in_valid && !residual_arrives && !credit_arrives;

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
  logic start, busy, send_follows, take_residual, residual_available, stream_wanted;
  instruction_t current;
  logic [SEQUENCE_BITS-1:0] stream_sequence;
  logic [14:0] position;
  logic [PLACE_BITS-1:0] base;
  logic norm_done, encode_done, rope_done, kv_done, attend_done, add_done, send_done;
  logic [15:0] finished;

  always_comb begin
    finished = '0;
    finished[NORM] = norm_done;
    finished[ENCODE] = encode_done;
    finished[ROPE] = rope_done;
    finished[KV_WRITE] = kv_done;
    finished[ATTEND] = attend_done;
    finished[ADD] = add_done;
    finished[SEND] = send_done;
    finished[SEND_TOKEN] = send_token_pushed;
  end

  nmllm_sequencer sequencer (
      .clk, .rst, .cfg_valid(cfg_valid && cfg_unit == 4'd2), .cfg_address, .cfg_data, .last_layer(last_layer_q), .residual_available,
      .residual_wanted(stream_wanted), .values_arrived(value_flits_q), .finished, .current, .start, .busy, .send_follows, .take_residual,
      .take_values, .receive_size, .ended(row_done));
  nmllm_positions #(.PLACE_BITS(PLACE_BITS)) positions (
      .clk, .rst, .take(take_residual), .stream_sequence, .part(part_q), .position, .base);

  logic [WAKE_BITS-1:0] wake_left;
  logic [14:0] scan;  // cycles from what `hold` delays to the first injection: those of the first scan, if there is one
  logic hold;
  assign scan = ELEMENT_ENCODER != 0 ? '0 : 15'((16'(current.size) + 16'(L - 1)) >> LANE_BITS);
  assign hold = 32'(wake_left) > 32'(scan) + 32'd1;
  nmllm_orders order (
      .clk, .rst, .last_site(last_site_q), .take_residual, .take_values, .row_done, .pushed(send_done || send_token_pushed),
      .passed_on(!last_layer_q || stream_wanted), .orders, .work_done, .wake_left);

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
  logic [ADDRESS_BITS-1:0] norm_residual_address, norm_gain_address, norm_write_address, rope_read_address, rope_write_address, kv_read_address;
  logic [ADDRESS_BITS-1:0] key_offset_address;
  logic [ADDRESS_BITS-1:0] encode_read_address, stop_address, encode_write_address, add_residual_address, add_operand_address, add_write_address;
  // verilator lint_on UNUSEDSIGNAL
  logic [L-1:0] cfg_mask;
  assign cfg_lanes = {(L / 2){cfg_data}};
  assign cfg_word = cfg_address >> PAIR_BITS;
  always_comb begin
    for (int lane = 0; lane < int'(L); lane++) cfg_mask[lane] = 24'(lane / 2) == (cfg_address & 24'(L / 2 - 1));
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

  logic residual_read, add_write;
  logic [RESIDUAL_BITS-1:0] residual_address;
  logic [L-1:0][31:0] residual_data, add_write_data;

  // Lanes of an arriving pair of values: those of a residual are counted, others say their place.
  logic [14:0] arriving_element, residual_element;
  logic [L-1:0] arriving_mask;
  logic [L-1:0][31:0] arriving_lanes;
  assign arriving_lanes = {(L / 2){in_flit.payload}};
  assign arriving_element = residual_arrives ? residual_element : in_flit.tag[14:0];
  always_comb begin
    for (int lane = 0; lane < int'(L); lane++) begin
      arriving_mask[lane] = 15'(lane / 2 * 2) == (arriving_element & 15'(L - 2)) && !(lane % 2 == 1 && in_flit.flag);
    end
  end

  logic [31:0] residual_magnitudes;
  nmllm_residual_buffers #(.WORDS(RESIDUAL_WORDS)) residual (
      .clk, .rst, .size(hidden_q), .arrives(residual_arrives), .arriving_tag(in_flit.tag), .arriving_element(residual_element),
      .arriving_mask, .arriving_lanes, .available(residual_available), .take(take_residual), .wanted(stream_wanted), .stream_sequence, .magnitudes(residual_magnitudes),
      .read_enable(residual_read), .read_address(residual_address), .read_data(residual_data), .write_enable(add_write), .write_address(RESIDUAL_BITS'(add_write_address)),
      .write_data(add_write_data));

  // ---------------------------------------------------------------- units
  logic norm_residual_read, norm_gain_read, norm_write;
  logic [L-1:0][31:0] norm_write_data;
  logic [47:0] norm_elements, square_roots, norm_divisions, norm_words_read, norm_words_written;
  nmllm_norm #(.ADDRESS_BITS(ADDRESS_BITS)) norm (
      .clk, .rst, .cfg_valid(cfg_valid && cfg_unit == 4'd6), .cfg_address(cfg_address[0]), .cfg_data,
      .start(start && current.operation == NORM), .size(current.size), .residual_base('0), .gain_base(current.base[ADDRESS_BITS-1:0]),
      .output_base('0), .magnitudes(residual_magnitudes), .done(norm_done), .residual_enable(norm_residual_read), .residual_address(norm_residual_address), .residual_data,
      .gain_enable(norm_gain_read), .gain_address(norm_gain_address), .gain_data(parameter_data), .write_enable(norm_write),
      .write_address(norm_write_address), .write_data(norm_write_data), .count_elements(norm_elements), .count_square_roots(square_roots),
      .count_divisions(norm_divisions), .count_words_read(norm_words_read), .count_words_written(norm_words_written));

  logic rope_read, rope_write;
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

  localparam int unsigned KV_WORD_BITS = $clog2(HEAD_DIM / L > 1 ? HEAD_DIM / L : 2);
  logic kv_read, key_offset_read;
  logic [GROUPS-1:0] kv_valid;
  logic [GROUPS-1:0][5:0] kv_vector;
  logic [KV_WORD_BITS-1:0] kv_word;
  logic [L-1:0][7:0] kv_data;
  logic [GROUPS-1:0][4:0] kv_exponent;
  logic [47:0] kv_elements, kv_vectors, kv_offsets;
  nmllm_kv_write #(.ADDRESS_BITS(ADDRESS_BITS), .MAX_HEAD_DIM(HEAD_DIM)) kv_write (
      .clk, .rst, .cfg_valid(cfg_valid && cfg_unit == 4'd8), .cfg_address(cfg_address[5:0]), .cfg_data,
      .start(start && current.operation == KV_WRITE), .size(current.size), .base(ADDRESS_BITS'(current.base >> LANE_BITS)),
      .offset(current.base[LANE_BITS-1:0]), .centred(current.source), .offset_base(ADDRESS_BITS'(current.route)), .done(kv_done),
      .read_enable(kv_read), .read_address(kv_read_address), .read_data(work_data), .offset_enable(key_offset_read),
      .offset_address(key_offset_address), .offset_data(parameter_data), .kv_valid, .kv_vector, .kv_word, .kv_data, .kv_exponent,
      .count_elements(kv_elements), .count_vectors(kv_vectors), .count_offsets(kv_offsets));

  logic encode_read, stop_read, encode_write, spike_valid, spike_ready, encode_attention_q, encode_attention;
  logic [L-1:0][31:0] encode_read_data, encode_write_data, attention_data;
  flit_t spike_flit;
  logic [47:0] encode_maximum_elements, encode_elements, encode_words_read, encode_words_written, bank_bits, spikes, spike_flits;
  logic [31:0] encode_maximum;  // of the vector, with MAXIMUM_WRITTEN
  nmllm_encoder #(.ADDRESS_BITS(ADDRESS_BITS), .PHASES(PHASES)) encoder (
      .clk, .rst, .cfg_valid(cfg_valid && cfg_unit == 4'd9), .cfg_address(cfg_address[0]), .cfg_data,
      .start(start && current.operation == ENCODE), .size(current.size), .vector_base('0), .stop_base(current.base[ADDRESS_BITS-1:0]),
      .route(current.route[ROUTE_BITS-1:0]), .hold, .maximum(encode_maximum), .done(encode_done), .read_enable(encode_read), .read_address(encode_read_address),
      .read_data(encode_read_data), .stop_enable(stop_read), .stop_address, .stop_data(parameter_data), .write_enable(encode_write),
      .write_address(encode_write_address), .write_data(encode_write_data), .spike_valid, .spike_ready, .spike_flit,
      .count_maximum_elements(encode_maximum_elements), .count_encode_elements(encode_elements), .count_words_read(encode_words_read),
      .count_words_written(encode_words_written), .count_bank_bits(bank_bits), .count_spikes(spikes), .count_flits(spike_flits));
  assign encode_attention = current.operation == ENCODE && current.source;
  always_ff @(posedge clk) encode_attention_q <= encode_attention;
  assign encode_read_data = encode_attention_q ? attention_data : work_data;

  logic add_read;
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
    parameter_read = norm_gain_read | stop_read | key_offset_read;
    parameter_address = PARAMETER_BITS'(norm_gain_read ? norm_gain_address : key_offset_read ? key_offset_address : stop_address);
    residual_read = norm_residual_read | add_read | send_read;
    residual_address = RESIDUAL_BITS'(norm_residual_read ? norm_residual_address : add_read ? add_residual_address : ADDRESS_BITS'(send_address));
  end

  // ---------------------------------------------------------------- attention
  localparam int unsigned HEADS = SLOTS * E * GROUP;
  localparam int unsigned HEAD_BITS = HEADS > 1 ? $clog2(HEADS) : 1;
  logic [HEADS-1:0][31:0] maxima_q;  // of each query head
  always_ff @(posedge clk) begin
    for (int g = 0; g < int'(GROUPS); g++) begin
      if (maximum_valid[g]) maxima_q[HEAD_BITS'(maximum_head+10'(g))] <= maximum[g];
    end
  end

  logic [E-1:0] engines_done;
  logic [47:0] engine_counts[E][15];
  logic [L-1:0][31:0] bank_datas[E];
  logic [E-1:0][31:0] output_maxima;
  logic query_write;
  assign query_write = rope_write || (encode_write && encode_attention);
  assign attend_done = busy && &engines_done;

  for (genvar e = 0; e < int'(E); e++) begin : g_engine
    nmllm_attention_bank #(.HEAD_DIM(HEAD_DIM), .GROUP(GROUP), .SLOTS(SLOTS), .WORDS(WORK_WORDS)) bank (
        .clk, .rst, .cfg_valid(cfg_valid && cfg_unit == 4'd10 && cfg_address[23:20] == 4'(e)), .cfg_address(cfg_address[19:0]), .cfg_data,
        .index(4'(e)), .kv_heads(kv_heads_q), .position, .base, .start(start && current.operation == ATTEND), .done(engines_done[e]), .maxima(maxima_q),
        .kv_valid, .kv_vector, .kv_word, .kv_exponent, .kv_data, .query_mask({L{query_write}}),
        .query_address(WORK_BITS'(rope_write ? rope_write_address : encode_write_address)),
        .query_data(rope_write ? rope_write_data : encode_write_data), .stop_mask(cfg_mask & {L{cfg_valid && cfg_unit == 4'd5}}),
        .stop_address(cfg_word[WORK_BITS-1:0]), .stop_data(cfg_lanes), .output_read(encode_read && encode_attention),
        .output_address(WORK_BITS'(encode_read_address)), .output_data(bank_datas[e]), .output_maximum(output_maxima[e]), .counts(engine_counts[e]));
  end

  // Maximum of what was written last: the norm's output or arrived values, or the outputs of all engines.
  if (MAXIMUM_WRITTEN != 0) begin : g_maximum
    logic [31:0] work_maximum;
    nmllm_maximum maximum_of_work (
        .clk, .clear(start && (current.operation == NORM || current.operation == ENCODE)), .mask(work_mask & {L{!rope_write && !encode_write}}),
        .data(work_write_data), .maximum(work_maximum));
    always_comb begin
      encode_maximum = encode_attention ? '0 : work_maximum;
      for (int e = 0; e < int'(E); e++) if (encode_attention && output_maxima[e] > encode_maximum) encode_maximum = output_maxima[e];
    end
  end else begin : g_maximum_read
    assign encode_maximum = '0;
    wire unused = &{1'b0, output_maxima};
  end

  logic [15:0][3:0] owners_q[WORK_WORDS*OWNER_PARTS];
  logic [OWNER_PARTS*16-1:0][3:0] owner;
  always_ff @(posedge clk) begin
    if (cfg_valid && cfg_unit == 4'd11) owners_q[cfg_address[$clog2(WORK_WORDS*OWNER_PARTS)-1:0]] <= cfg_data;
    for (int part = 0; part < int'(OWNER_PARTS); part++) begin
      if (encode_read) owner[16*part+:16] <= owners_q[$clog2(WORK_WORDS*OWNER_PARTS)'(32'(WORK_BITS'(encode_read_address))*OWNER_PARTS+part)];
    end
  end
  always_comb begin
    for (int lane = 0; lane < int'(L); lane++) attention_data[lane] = bank_datas[ENGINE_BITS'(owner[lane])][lane];
  end

  // ---------------------------------------------------------------- injection
  nmllm_injection #(.WORDS(RESIDUAL_WORDS)) injection (
      .clk, .rst, .vector_route(out_route_q), .credit_route(credit_route_q), .credit_due(take_residual), .credit_arrives,
      .send(!rst && current.operation == SEND), .size(current.size), .wanted(stream_wanted), .stream_sequence, .send_done,
      .send_token(!rst && current.operation == SEND_TOKEN), .token(best_index_q), .token_done(send_token_pushed),
      .prefetch(add_done && send_follows), .read_enable(send_read), .read_address(send_address), .read_data(residual_data), .spike_valid,
      .spike_ready, .spike_flit, .out_valid, .out_ready, .out_flit);

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

  function automatic logic [63:0] engine_sum(input logic [47:0] counts[E][15], input logic [3:0] which);
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
    counters[5] = 64'(add_elements) + 64'(kv_offsets);
    counters[6] = 64'(rope_elements);
    counters[7] = engine_sum(engine_counts, 4'd1);
    counters[8] = engine_sum(engine_counts, 4'd5);
    counters[9] = engine_sum(engine_counts, 4'd2);
    counters[10] = engine_sum(engine_counts, 4'd3);
    counters[11] = engine_sum(engine_counts, 4'd6);
    counters[12] = engine_sum(engine_counts, 4'd8);
    counters[13] = 32 * (64'(norm_words_read) + 64'(rope_words_read) + 64'(kv_elements) + 64'(kv_offsets) + 64'(encode_words_read)
        + 64'(add_words_read) + engine_sum(engine_counts, 4'd13) + sent_values_q + token_values_q);
    counters[14] = 32 * (64'(norm_words_written) + 64'(rope_words_written) + 64'(encode_words_written) + 64'(add_words_written)
        + engine_sum(engine_counts, 4'd14) + arrived_values_q);
    counters[15] = 64'(bank_bits);
    counters[16] = 16 * 64'(table_entries);
    counters[17] = engine_sum(engine_counts, 4'd9);
    counters[18] = engine_sum(engine_counts, 4'd10);
    counters[19] = engine_sum(engine_counts, 4'd11);
    counters[20] = engine_sum(engine_counts, 4'd12);
    counters[21] = 64'(spikes);
    counters[22] = 64'(spike_flits);
    counters[23] = 64'(kv_vectors);
  end

`ifndef SYNTHESIS
  one_instruction : assert property (@(posedge clk) disable iff (rst) $onehot0({norm_write, rope_write, encode_write, value_arrives && !head_q}))
  else $error("one_instruction: two units write the work memory in one cycle");
  at_rest : assert property (@(posedge clk) disable iff (rst) asleep |-> !busy && current.operation == RECEIVE_RESIDUAL && value_flits_q == '0)
  else $error("at_rest: a tile that is off or waking has work under way");
`endif
endmodule

`default_nettype wire
