// An attention engine of a vector tile with what is its own: its turn through the key/value heads, its copy of the queries, where its outputs go too,
// and of their stop prices (docs/reference/rtl/vector-tile.md). Engines run at the same time, so each needs memories of its own.
//
// Engine `index` of E has the key/value heads index, index + E, ..; `start` runs it over all of them, `done` is high once none is left (also in the cycle
// in which the last one ends). An engine without heads is always done. Keys and values are taken from the words of nmllm_kv_write.
//
// Register map (cfg_address): that of nmllm_attention; 0 and 1, elements and query heads of a key/value head, are used here too.
`default_nettype none

module nmllm_attention_bank
  import nmllm_pkg::*;
#(
    parameter int unsigned HEAD_DIM = 16,
    parameter int unsigned GROUP = 4,
    parameter int unsigned SLOTS = 4,
    parameter int unsigned WORDS = 64,
    localparam int unsigned L = VECTOR_LANES,
    localparam int unsigned E = ATTENTION_ENGINES,
    localparam int unsigned HEADS = SLOTS * E * GROUP,
    localparam int unsigned GROUPS = L / 2,
    localparam int unsigned WORD_BITS = $clog2(WORDS),
    localparam int unsigned ROWS_HELD = KV_BYTES_PER_ENGINE / (2 * HEAD_DIM + 1),
    localparam int unsigned PLACE_BITS = $clog2(ROWS_HELD),
    localparam int unsigned KV_WORD_BITS = $clog2(HEAD_DIM / L > 1 ? HEAD_DIM / L : 2),
    localparam int unsigned COUNTERS = 15
) (
    input  logic                        clk,
    input  logic                        rst,
    input  logic                        cfg_valid,
    input  logic [19:0]                 cfg_address,
    input  logic [63:0]                 cfg_data,
    input  logic [ 3:0]                 index,
    input  logic [ 7:0]                 kv_heads,
    input  logic [14:0]                 position,
    input  logic [PLACE_BITS-1:0]       base,  // place of position 0
    input  logic                        start,
    output logic                        done,
    input  logic [HEADS-1:0][31:0]      maxima,  // of the query heads
    // keys and values
    input  logic [GROUPS-1:0]           kv_valid,
    input  logic [GROUPS-1:0][5:0]      kv_vector,
    input  logic [KV_WORD_BITS-1:0]     kv_word,
    input  logic [GROUPS-1:0][4:0]      kv_exponent,
    input  logic [L-1:0][7:0]           kv_data,
    // queries and stop prices; the encoder reads the outputs and leaves its remainders
    input  logic [L-1:0]                query_mask,
    input  logic [WORD_BITS-1:0]        query_address,
    input  logic [L-1:0][31:0]          query_data,
    input  logic [L-1:0]                stop_mask,
    input  logic [WORD_BITS-1:0]        stop_address,
    input  logic [L-1:0][31:0]          stop_data,
    input  logic                        output_read,
    input  logic [WORD_BITS-1:0]        output_address,
    output logic [L-1:0][31:0]          output_data,
    output logic [31:0]                 output_maximum,  // largest magnitude of its outputs, with MAXIMUM_WRITTEN
    output logic [47:0]                 counts [COUNTERS]
);
  localparam int unsigned SLOT_BITS = SLOTS > 1 ? $clog2(SLOTS) : 1;
  localparam int unsigned HEAD_BITS = HEADS > 1 ? $clog2(HEADS) : 1;
  localparam int unsigned CONTEXT = ROWS_HELD < 8192 ? ROWS_HELD : 8192;
  localparam int unsigned CONTEXT_BITS = $clog2(CONTEXT + 1);
  localparam int unsigned ENGINE_WORD_BITS = HEAD_DIM > 2 * L ? $clog2(HEAD_DIM / L) : 1;

  logic [7:0] lanes_q;  // from one vector of a word to the next
  logic [7:0] group_q;  // query heads of a key/value head
  always_ff @(posedge clk) begin
    if (cfg_valid && cfg_address == 20'd0) lanes_q <= cfg_data[7:0] > 8'(L) ? 8'(L) : cfg_data[7:0];
    if (cfg_valid && cfg_address == 20'd1) group_q <= cfg_data[7:0];
  end

  // Turn through the heads.
  logic running_q, next_q, used, last, engine_start, engine_done;
  logic [SLOT_BITS-1:0] slot_q, slot;
  logic [7:0] kv_head;
  logic [GROUP-1:0][31:0] maximum;

  assign slot = start ? '0 : slot_q;
  assign kv_head = 8'(slot) * 8'(E) + 8'(index);
  assign used = kv_heads > 8'(index);
  assign last = 16'(kv_head) + 16'(E) >= 16'(kv_heads);
  assign engine_start = used && (start || next_q);
  assign done = !running_q || (engine_done && last);
  always_comb begin
    for (int i = 0; i < int'(GROUP); i++) maximum[i] = maxima[HEAD_BITS'(10'(kv_head)*10'(group_q)+10'(i))];
  end

  always_ff @(posedge clk) begin
    next_q <= engine_done && !last;
    if (engine_done) slot_q <= slot + 1'b1;
    else if (start) slot_q <= '0;
    if (engine_start) running_q <= 1'b1;
    else if (engine_done && last) running_q <= 1'b0;
    if (rst) {running_q, next_q} <= '0;
  end

  // Of the vectors in a word of keys or values, the one of this engine.
  logic row_valid, row_is_value;
  logic [SLOT_BITS-1:0] row_slot;
  logic [4:0] row_exponent;
  logic [L-1:0][7:0] row_data;
  always_comb begin
    row_valid = 1'b0;
    row_is_value = 1'b0;
    row_slot = '0;
    row_exponent = '0;
    row_data = '0;
    for (int g = 0; g < int'(GROUPS); g++) begin
      automatic logic is_value = 8'(kv_vector[g]) >= kv_heads;
      automatic logic [7:0] head = 8'(kv_vector[g]) - (is_value ? kv_heads : 8'd0);
      if (kv_valid[g] && head % 8'(E) == 8'(index)) begin
        row_valid = 1'b1;
        row_is_value = is_value;
        row_slot = SLOT_BITS'(head / 8'(E));
        row_exponent = kv_exponent[g];
        row_data = kv_data >> (8 * ((32'(g) * 32'(lanes_q)) % 32'(L)));
      end
    end
  end

  logic engine_read, engine_write;
  // verilator lint_off UNUSEDSIGNAL
  logic engine_write_output;  // outputs and remainders go to the same words
  logic [14:0] engine_read_word, engine_write_word;  // a vector does not fill 15 bits, which the assertions of the memories check
  // verilator lint_on UNUSEDSIGNAL
  logic [L-1:0] engine_mask;
  logic [L-1:0][31:0] engine_write_data, engine_stop_data;
  nmllm_attention #(.HEAD_DIM(HEAD_DIM), .GROUP(GROUP), .SLOTS(SLOTS)) engine (
      .clk, .rst, .cfg_valid, .cfg_address({4'd0, cfg_address}), .cfg_data, .kv_valid(row_valid), .kv_is_value(row_is_value), .kv_slot(row_slot),
      .kv_position(CONTEXT_BITS'(position)), .base, .kv_word(ENGINE_WORD_BITS'(kv_word)), .kv_exponent(row_exponent), .kv_data(row_data),
      .start(engine_start), .slot, .context_size(CONTEXT_BITS'(position + 15'd1)), .maximum, .done(engine_done), .read_enable(engine_read),
      .read_word(engine_read_word), .query_data(output_data), .stop_data(engine_stop_data), .write_enable(engine_write),
      .write_output(engine_write_output), .write_word(engine_write_word), .write_mask(engine_mask), .write_data(engine_write_data),
      .count_encode_elements(counts[0]), .count_query_spikes(counts[1]), .count_score_operations(counts[2]), .count_softmax_elements(counts[3]),
      .count_maximum_elements(counts[4]), .count_probability_spikes(counts[5]), .count_value_operations(counts[6]), .count_divisions(counts[7]),
      .count_attention_values(counts[8]), .count_kv_bits_read(counts[9]), .count_kv_bits_written(counts[10]),
      .count_score_bits_read(counts[11]), .count_score_bits_written(counts[12]), .count_words_read(counts[13]), .count_words_written(counts[14]));

  if (MAXIMUM_WRITTEN != 0) begin : g_maximum
    nmllm_maximum maximum_of_outputs (
        .clk, .clear(start), .mask(engine_mask & {L{engine_write && engine_write_output}}), .data(engine_write_data), .maximum(output_maximum));
  end else begin : g_none
    assign output_maximum = '0;
  end

  nmllm_lane_ram #(.LANES(L), .DEPTH(WORDS)) queries (
      .clk, .write_mask(engine_write ? engine_mask : query_mask), .write_address(engine_write ? WORD_BITS'(engine_write_word) : query_address),
      .write_data(engine_write ? engine_write_data : query_data), .read_enable(engine_read | output_read),
      .read_address(engine_read ? WORD_BITS'(engine_read_word) : output_address), .read_data(output_data));
  nmllm_lane_ram #(.LANES(L), .DEPTH(WORDS)) query_stops (
      .clk, .write_mask(stop_mask), .write_address(stop_address), .write_data(stop_data), .read_enable(engine_read),
      .read_address(WORD_BITS'(engine_read_word)), .read_data(engine_stop_data));
endmodule

`default_nettype wire
