// Spike attention engine: scores, softmax and outputs of the query heads of one key/value head after the other (numerics.md, Attention; timing.md, attend).
//
// Command: `start` with the key/value head (`slot`, its number within this engine), the context C and the largest magnitude of each query head; takes the
// cycles of timing.md. All queries are coded, then all scores formed, SET heads side by side; then each set in turn has the softmax of its heads, their values side
// by side, and their outputs one after another. Cycles of work are those of the formula; those
// between them (18 + P(D) for the first head, 14 + P(D) for each other at most) come out of LATENCY, and `done` waits for the rest.
//
// Queries, stop prices and outputs are vectors of all heads, LANES elements per word, in the memories of the vector tile. With the encoder `phase` the
// engine reads a word of remainders and of stop prices each query phase and writes the remainders back; write_output tells outputs from them. With
// ELEMENT it reads each once (nmllm_attention_element_encoder). Data come in the cycle after the address. write_mask names the elements of the
// head, if it does not fill a word.
//
// Keys and values come as rows: elements kv_word * LANES on of 8 bits (the first D lanes if LANES > D) with the row's exponent, taken always
// while no command runs or its queries are being coded; one head a cycle and engine, so D times the engines must be at least LANES.
//
// The context of a sequence lies `base` places behind the first one of the key/value head.
//
// Register map (cfg_address): 0 D; 1 heads of a group; 2 query phases T (1..10); 3 probability bits P (1..10); 4 score shift 2 f_qkv - 8; 5 output shift
// 15 + f_qkv - f_attention; 16 + 4 slot: element of the query vector at which its first head begins; + 1 first block of its keys; + 2 row of its first
// value; + 3 value_base. Blocks are of KEY_LANES keys.
`default_nettype none

module nmllm_attention #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned KEY_LANES = nmllm_pkg::KEY_LANES,
    parameter int unsigned SOFTMAX_LANES = nmllm_pkg::SOFTMAX_LANES,
    parameter int unsigned LATENCY = nmllm_pkg::ATTEND_LATENCY,
    parameter bit ELEMENT = nmllm_pkg::ELEMENT_ENCODER != 0,
    parameter int unsigned HEAD_DIM = 16,  // largest D
    parameter int unsigned GROUP = 4,  // most query heads of a key/value head
    parameter int unsigned HEAD_LANES = nmllm_pkg::HEAD_LANES,  // query heads taken at once
    parameter bit MAXIMUM_WRITTEN = nmllm_pkg::MAXIMUM_WRITTEN != 0,
    parameter int unsigned SLOTS = 4,  // most key/value heads of the engine
    parameter int unsigned ROWS = nmllm_pkg::KV_BYTES_PER_ENGINE / (2 * HEAD_DIM + 1),  // keys and values of all slots
    localparam int unsigned CONTEXT = ROWS < 8192 ? ROWS : 8192,
    localparam int unsigned CONTEXT_BITS = $clog2(CONTEXT + 1),
    localparam int unsigned ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1,
    localparam int unsigned SLOT_BITS = SLOTS > 1 ? $clog2(SLOTS) : 1,
    localparam int unsigned WORDS = HEAD_DIM > LANES ? HEAD_DIM / LANES : 1,
    localparam int unsigned WORD_BITS = WORDS > 1 ? $clog2(WORDS) : 1
) (
    input  logic                               clk,
    input  logic                               rst,
    input  logic                               cfg_valid,
    input  logic [            23:0]            cfg_address,
    // Registers are narrower than the bus.
    // verilator lint_off UNUSEDSIGNAL
    input  logic [            63:0]            cfg_data,
    // verilator lint_on UNUSEDSIGNAL
    // rows of keys and values
    input  logic                               kv_valid,
    input  logic                               kv_is_value,
    input  logic [   SLOT_BITS-1:0]            kv_slot,
    input  logic [CONTEXT_BITS-1:0]            kv_position,
    input  logic [    ROW_BITS-1:0]            base,  // place of position 0, the first of a block; stays through a command
    input  logic [   WORD_BITS-1:0]            kv_word,
    input  logic [             4:0]            kv_exponent,
    input  logic [       LANES-1:0][7:0]       kv_data,
    // command
    input  logic                               start,
    input  logic [   SLOT_BITS-1:0]            slot,
    input  logic [CONTEXT_BITS-1:0]            context_size,
    input  logic [       GROUP-1:0][31:0]      maximum,
    output logic                               done,
    // vector memory
    output logic                               read_enable,
    output logic [            14:0]            read_word,
    input  logic [       LANES-1:0][31:0]      query_data,
    input  logic [       LANES-1:0][31:0]      stop_data,
    output logic                               write_enable,
    output logic                               write_output,
    output logic [            14:0]            write_word,
    output logic [       LANES-1:0]            write_mask,
    output logic [       LANES-1:0][31:0]      write_data,
    // counters (timing.md); bits of key/value and score memory, words of vector memory
    output logic [            47:0]            count_encode_elements,
    output logic [            47:0]            count_query_spikes,
    output logic [            47:0]            count_score_operations,
    output logic [            47:0]            count_softmax_elements,
    output logic [            47:0]            count_maximum_elements,
    output logic [            47:0]            count_probability_spikes,
    output logic [            47:0]            count_value_operations,
    output logic [            47:0]            count_divisions,
    output logic [            47:0]            count_attention_values,
    output logic [            47:0]            count_kv_bits_read,
    output logic [            47:0]            count_kv_bits_written,
    output logic [            47:0]            count_score_bits_read,
    output logic [            47:0]            count_score_bits_written,
    output logic [            47:0]            count_words_read,
    output logic [            47:0]            count_words_written
);
  /* verilator no_inline_module */  // one C++ function for all instances
  localparam int unsigned DIM_BITS = $clog2(HEAD_DIM + 1);
  localparam int unsigned HEAD_BITS = GROUP > 1 ? $clog2(GROUP) : 1;
  localparam int unsigned HEADS_BITS = $clog2(GROUP + 1);
  localparam int unsigned SET = HEAD_LANES < GROUP ? HEAD_LANES : GROUP;
  localparam int unsigned SETS = (GROUP + SET - 1) / SET;
  localparam int unsigned SET_BITS = SETS > 1 ? $clog2(SETS) : 1;
  localparam int unsigned LANE_BITS = SET > 1 ? $clog2(SET) : 1;
  localparam int unsigned BLOCKS = (ROWS + KEY_LANES - 1) / KEY_LANES + SLOTS;
  localparam int unsigned BLOCK_BITS = $clog2(BLOCKS);
  localparam int unsigned CONTEXT_BLOCKS = (CONTEXT + KEY_LANES - 1) / KEY_LANES;
  localparam int unsigned CONTEXT_BLOCK_BITS = CONTEXT_BLOCKS > 1 ? $clog2(CONTEXT_BLOCKS) : 1;
  localparam int unsigned KEY_ADDRESS_BITS = $clog2(BLOCKS * HEAD_DIM);
  localparam int unsigned KEY_LANE_BITS = $clog2(KEY_LANES);
  localparam int unsigned SOFTMAX_WORDS = (CONTEXT + SOFTMAX_LANES - 1) / SOFTMAX_LANES;
  localparam int unsigned SOFTMAX_WORD_BITS = SOFTMAX_WORDS > 1 ? $clog2(SOFTMAX_WORDS) : 1;
  localparam int unsigned QUERY_PHASES = 10;
  localparam int unsigned SPIKE_BITS = $clog2(HEAD_DIM * GROUP * QUERY_PHASES + 1);
  localparam int unsigned WORD_SPIKE_BITS = $clog2(LANES * QUERY_PHASES + 1);
  localparam int unsigned PHASES = 11;
  localparam int unsigned SUM_BITS = 26;
  localparam int unsigned PROBABILITY_SUM_BITS = 16;
  localparam int unsigned IDLE_BITS = $clog2(GROUP * LATENCY + 1);

  typedef enum logic [2:0] {IDLE, QUERIES, SCORES_START, SCORES, SOFTMAX, DIVIDE, OUTPUT, WAIT} state_t;

  // configuration
  logic [DIM_BITS-1:0] head_dim_q;
  logic [HEADS_BITS-1:0] heads_q;
  logic [3:0] query_phases_q, probability_bits_q;
  logic signed [7:0] score_places_q, output_places_q;
  logic [14:0] slot_first_q[SLOTS];
  logic [BLOCK_BITS-1:0] slot_block_q[SLOTS];
  logic [ROW_BITS-1:0] slot_row_q[SLOTS];
  logic [5:0] slot_value_base_q[SLOTS];

  // command
  state_t state_q;
  logic [SLOT_BITS-1:0] slot_q;
  logic [CONTEXT_BITS-1:0] context_q;
  logic [HEAD_BITS-1:0] head_q;
  logic [SET_BITS-1:0] set_q;  // of the head
  logic [LANE_BITS-1:0] lane_q, last_lane;  // of the head, and of the last one, in its set
  logic [14:0] first_q;  // of the head
  logic [IDLE_BITS-1:0] idle_left_q;  // cycles that do no work
  logic working, finished, divided_q, last_head, last_of_set, start_softmax, start_divide;

  // units
  logic encoder_working, encoder_done, encoder_write;
  logic [LANES-1:0][QUERY_PHASES-1:0] encoder_fired, encoder_negative;
  logic [WORD_SPIKE_BITS-1:0] encoder_spikes;
  logic [3:0] encoder_coded;
  logic [LANES-1:0] encoder_mask, output_mask;
  logic [DIM_BITS-1:0] encoder_element, read_element;
  logic [HEAD_BITS-1:0] encoder_head;
  logic [SET_BITS-1:0] z_set;
  logic [SET-1:0][3:0] least;
  logic [GROUP-1:0][3:0] phases;
  logic [GROUP-1:0][4:0] exponent;
  logic [14:0] encoder_word, output_word;
  logic [LANES-1:0][31:0] encoder_data, output_data;
  logic scores_working, scores_done, in_last_block;
  logic [SPIKE_BITS-1:0] spikes;
  logic [GROUP-1:0] silent;
  logic [KEY_ADDRESS_BITS-1:0] key_address;
  logic [KEY_LANE_BITS-1:0] key_skew;
  logic key_enable, exponent_enable, value_enable;
  logic [BLOCK_BITS-1:0] exponent_block, kv_block, base_block, first_block;  // `first`: of the context
  // A context has fewer blocks than the memory.
  // verilator lint_off UNUSEDSIGNAL
  logic [BLOCK_BITS-1:0] z_block;
  // verilator lint_on UNUSEDSIGNAL
  logic [KEY_LANES-1:0][7:0] keys;
  logic [KEY_LANES-1:0][4:0] key_exponents;
  logic [SET-1:0] score_adding, z_valid, set_silent;
  logic [SET-1:0][KEY_LANES-1:0][23:0] z;
  logic softmax_working, softmax_done;
  logic [SET-1:0][PROBABILITY_SUM_BITS-1:0] probability_sum;
  logic coded_valid, coded_ready;
  logic [SOFTMAX_WORD_BITS-1:0] coded_word;
  logic [SET-1:0][SOFTMAX_LANES-1:0][PHASES-1:0] coded_fired, coded_negative;
  logic values_working, values_idle;
  logic [SET-1:0] value_adding;
  logic [ROW_BITS-1:0] value_row;
  logic [HEAD_DIM-1:0][7:0] values;
  logic [1:0] value_exponent;
  logic [LANES-1:0][SUM_BITS-1:0] sums;
  logic divide_done, output_start, output_done, output_write;
  logic [16:0] inverse;
  logic [4:0] length;
  logic [CONTEXT_BLOCK_BITS-1:0] last_block;

  assign last_head = HEADS_BITS'(head_q) + HEADS_BITS'(1) == heads_q;
  assign last_lane = 32'(set_q) * SET + SET > 32'(heads_q) ? LANE_BITS'(32'(heads_q) - 1 - 32'(set_q) * SET) : LANE_BITS'(SET - 1);
  assign last_of_set = lane_q == last_lane;
  assign start_softmax = scores_done || (output_done && last_of_set && !last_head);
  assign start_divide = softmax_done || (output_done && !last_of_set);
  assign output_start = state_q == DIVIDE && (divide_done || divided_q) && values_idle;
  assign working = encoder_working || scores_working || softmax_working || values_working;
  assign finished = state_q == WAIT || (output_done && last_head);
  assign done = finished && idle_left_q == IDLE_BITS'(1);
  assign last_block = CONTEXT_BLOCK_BITS'((context_q - CONTEXT_BITS'(1)) >> KEY_LANE_BITS);
  assign base_block = BLOCK_BITS'(base >> KEY_LANE_BITS);
  assign first_block = slot_block_q[slot_q] + base_block;
  assign kv_block = slot_block_q[kv_slot] + base_block + BLOCK_BITS'(kv_position >> KEY_LANE_BITS);

  always_ff @(posedge clk) begin
    unique case (state_q)
      IDLE: if (start) state_q <= QUERIES;
      QUERIES: if (encoder_done) state_q <= SCORES_START;
      SCORES_START: state_q <= scores_done ? SOFTMAX : SCORES;
      SCORES: if (scores_done) state_q <= SOFTMAX;
      SOFTMAX: if (softmax_done) state_q <= DIVIDE;
      DIVIDE: if (output_start) state_q <= OUTPUT;
      OUTPUT: if (output_done) state_q <= !last_of_set ? DIVIDE : !last_head ? SOFTMAX : done ? IDLE : WAIT;
      WAIT: if (done) state_q <= IDLE;
      default: state_q <= IDLE;
    endcase
    divided_q <= state_q == DIVIDE && (divided_q || divide_done);
    if (start) begin
      slot_q <= slot;
      context_q <= context_size;
      first_q <= slot_first_q[slot];
      head_q <= '0;
      set_q <= '0;
      lane_q <= '0;
      idle_left_q <= IDLE_BITS'(32'(heads_q) * LATENCY - 1);
    end else begin
      if (!working && state_q != IDLE) idle_left_q <= idle_left_q - IDLE_BITS'(1);
      if (output_done) begin
        first_q <= first_q + 15'(head_dim_q);
        head_q <= last_head ? '0 : head_q + HEAD_BITS'(1);
        lane_q <= last_of_set ? '0 : lane_q + LANE_BITS'(1);
        if (last_of_set && !last_head) set_q <= set_q + SET_BITS'(1);
      end
    end
    if (rst) begin
      state_q <= IDLE;
      divided_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (cfg_valid) begin
      if (cfg_address >= 24'd16) begin
        unique case (cfg_address[1:0])
          2'd0: slot_first_q[cfg_address[SLOT_BITS+1:2]-SLOT_BITS'(4)] <= cfg_data[14:0];
          2'd1: slot_block_q[cfg_address[SLOT_BITS+1:2]-SLOT_BITS'(4)] <= cfg_data[BLOCK_BITS-1:0];
          2'd2: slot_row_q[cfg_address[SLOT_BITS+1:2]-SLOT_BITS'(4)] <= cfg_data[ROW_BITS-1:0];
          default: slot_value_base_q[cfg_address[SLOT_BITS+1:2]-SLOT_BITS'(4)] <= cfg_data[5:0];
        endcase
      end
      unique case (cfg_address)
        24'd0: head_dim_q <= cfg_data[DIM_BITS-1:0];
        24'd1: heads_q <= cfg_data[HEADS_BITS-1:0];
        24'd2: query_phases_q <= cfg_data[3:0];
        24'd3: probability_bits_q <= cfg_data[3:0];
        24'd4: score_places_q <= cfg_data[7:0];
        24'd5: output_places_q <= cfg_data[7:0];
        default: ;
      endcase
    end
  end

  nmllm_attention_memory #(.LANES(LANES), .KEY_LANES(KEY_LANES), .HEAD_DIM(HEAD_DIM), .BLOCKS(BLOCKS), .ROWS(ROWS)) u_memory (
      .clk, .rst, .write_valid(kv_valid), .write_is_value(kv_is_value), .write_block(kv_block),
      .write_lane(kv_position[KEY_LANE_BITS-1:0]), .write_key_address(KEY_ADDRESS_BITS'(32'(kv_block) * 32'(head_dim_q))),
      .write_row(slot_row_q[kv_slot] + base + ROW_BITS'(kv_position)), .write_word(kv_word),
      .write_lanes(32'(head_dim_q) < LANES ? ($clog2(LANES) + 1)'(head_dim_q) : ($clog2(LANES) + 1)'(LANES)), .write_exponent(kv_exponent),
      .write_data(kv_data), .key_enable, .key_address, .key_skew, .keys, .exponent_enable, .exponent_block, .key_exponents, .value_enable,
      .value_row, .values, .value_exponent);

  if (ELEMENT) begin : g_element
    nmllm_attention_element_encoder #(.LANES(LANES), .HEAD_DIM(HEAD_DIM), .GROUP(GROUP), .PHASES(QUERY_PHASES)) u_encoder (
        .clk, .rst, .start, .head_dim(head_dim_q), .heads(heads_q), .phases_allowed(query_phases_q), .first(slot_first_q[slot]), .maximum,
        .working(encoder_working), .done(encoder_done), .read_enable, .read_word, .query_data, .stop_data,
        .fired(encoder_fired), .negative(encoder_negative), .spikes(encoder_spikes), .element(encoder_element), .head(encoder_head),
        .coded(encoder_coded), .phases, .exponent);
    assign encoder_write = 1'b0;
    assign encoder_word = '0;
    assign encoder_mask = '0;
    assign encoder_data = '0;
  end else begin : g_phase
    nmllm_attention_encoder #(.LANES(LANES), .HEAD_DIM(HEAD_DIM), .GROUP(GROUP), .PHASES(QUERY_PHASES)) u_encoder (
        .clk, .rst, .start, .head_dim(head_dim_q), .heads(heads_q), .phases_allowed(query_phases_q), .first(slot_first_q[slot]), .maximum,
        .working(encoder_working), .done(encoder_done), .read_enable, .read_word, .query_data, .stop_data,
        .write_enable(encoder_write), .write_word(encoder_word), .write_mask(encoder_mask), .write_data(encoder_data),
        .fired(encoder_fired), .negative(encoder_negative), .spikes(encoder_spikes), .element(encoder_element), .head(encoder_head),
        .coded(encoder_coded), .phases, .exponent);
  end

  nmllm_attention_scores #(
      .LANES(LANES), .KEY_LANES(KEY_LANES), .HEAD_DIM(HEAD_DIM), .GROUP(GROUP), .SET(SET), .BLOCKS(BLOCKS), .PHASES(QUERY_PHASES)) u_scores (
      .clk, .rst, .clear(start), .spike_fired(encoder_fired), .spike_negative(encoder_negative), .spike_count(encoder_spikes),
      .spike_element(encoder_element), .spike_head(encoder_head), .start(state_q == SCORES_START), .head_dim(head_dim_q),
      .last_block(BLOCK_BITS'(last_block)), .key_base(KEY_ADDRESS_BITS'(32'(first_block) * 32'(head_dim_q))),
      .block_base(first_block), .places(score_places_q), .phases, .exponent, .working(scores_working), .adding(score_adding), .done(scores_done),
      .spikes, .silent, .key_enable, .key_address, .key_skew, .keys, .exponent_enable, .exponent_block, .key_exponents, .in_last_block,
      .z_valid, .z_set, .z_block, .z);

  always_comb begin
    for (int unsigned h = 0; h < SET; ++h) set_silent[h] = 32'(set_q) * SET + h < GROUP && silent[HEAD_BITS'(32'(set_q)*SET+h)];
  end

  nmllm_attention_softmax #(
      .KEY_LANES(KEY_LANES), .SOFTMAX_LANES(SOFTMAX_LANES), .GROUP(GROUP), .SET(SET), .MAXIMUM_WRITTEN(MAXIMUM_WRITTEN), .CONTEXT(CONTEXT),
      .SUM_BITS(PROBABILITY_SUM_BITS)) u_softmax (
      .clk, .rst, .clear(start), .z_valid, .z_set, .z_block(CONTEXT_BLOCK_BITS'(z_block)), .z, .start(start_softmax), .set(set_q), .last_head(last_lane),
      .silent(set_silent), .context_size(context_q), .probability_bits(probability_bits_q), .working(softmax_working),
      .done(softmax_done), .sum(probability_sum), .least, .coded_valid, .coded_ready, .coded_word, .coded_fired, .coded_negative);

  nmllm_attention_values #(
      .LANES(LANES), .SOFTMAX_LANES(SOFTMAX_LANES), .HEAD_DIM(HEAD_DIM), .SET(SET), .ROWS(ROWS), .WORDS(SOFTMAX_WORDS), .SUM_BITS(SUM_BITS)) u_values (
      .clk, .rst, .clear(start_softmax), .row_base(slot_row_q[slot_q] + base), .least, .valid(coded_valid), .ready(coded_ready),
      .word(coded_word), .fired(coded_fired), .negative(coded_negative), .working(values_working), .adding(value_adding), .idle(values_idle), .value_enable,
      .value_row, .values, .value_exponent, .read_head(lane_q), .read_element, .read_sums(sums));

  logic [LANE_BITS-1:0] divide_lane;  // of the head to come
  assign divide_lane = output_done ? lane_q + LANE_BITS'(1) : lane_q;
  nmllm_attention_divide #(.BITS(PROBABILITY_SUM_BITS)) u_divide (
      .clk, .rst, .start(start_divide), .sum(probability_sum[divide_lane]), .done(divide_done), .inverse, .length);

  nmllm_attention_output #(.LANES(LANES), .HEAD_DIM(HEAD_DIM), .SUM_BITS(SUM_BITS)) u_output (
      .clk, .rst, .start(output_start), .head_dim(head_dim_q), .first(first_q), .inverse, .length,
      .places(output_places_q - 8'(slot_value_base_q[slot_q])), .done(output_done), .read_element, .read_sums(sums),
      .write_enable(output_write), .write_word(output_word), .write_mask(output_mask), .write_data(output_data));

  assign write_enable = encoder_write || output_write;
  assign write_output = output_write;
  assign write_word = output_write ? output_word : encoder_word;
  assign write_mask = output_write ? output_mask : encoder_mask;
  assign write_data = output_write ? output_data : encoder_data;

  // counters
  logic [KEY_LANE_BITS:0] keys_in_block;
  logic [DIM_BITS-1:0] word_elements;
  assign word_elements = 32'(head_dim_q) < LANES ? head_dim_q : DIM_BITS'(LANES);
  assign keys_in_block = in_last_block ? (KEY_LANE_BITS + 1)'(context_q - CONTEXT_BITS'(32'(last_block) * KEY_LANES))
                                       : (KEY_LANE_BITS + 1)'(KEY_LANES);
  assign count_maximum_elements = count_softmax_elements;

  always_ff @(posedge clk) begin
    count_encode_elements <= count_encode_elements + 48'(encoder_coded) * 48'(word_elements);
    if (read_enable) count_words_read <= count_words_read + {47'(word_elements), 1'b0};
    if (write_enable) count_words_written <= count_words_written + 48'(word_elements);
    if (state_q == SCORES_START) count_query_spikes <= count_query_spikes + 48'(spikes);
    count_score_operations <= count_score_operations + 48'($countones(score_adding)) * 48'(keys_in_block);
    count_probability_spikes <= count_probability_spikes + 48'($countones(value_adding));
    count_value_operations <= count_value_operations + 48'($countones(value_adding)) * 48'(head_dim_q);
    if (start_divide) begin  // once for each head
      count_softmax_elements <= count_softmax_elements + 48'(context_q);
      count_score_bits_read <= count_score_bits_read + 48'(context_q) * (MAXIMUM_WRITTEN ? 48'd40 : 48'd64);
      count_score_bits_written <= count_score_bits_written + 48'(context_q) * 48'd40;
      count_divisions <= count_divisions + 48'd1;
    end
    if (output_done) count_attention_values <= count_attention_values + 48'(head_dim_q);
    // All keys' exponents are counted with the command.
    count_kv_bits_read <= count_kv_bits_read + (state_q == SCORES_START ? 48'(context_q) << 3 : '0) +
        (key_enable ? 48'(keys_in_block) << 3 : '0) + (value_enable ? (48'(head_dim_q) + 48'd1) << 3 : '0);
    if (kv_valid && kv_word == '0) count_kv_bits_written <= count_kv_bits_written + ((48'(head_dim_q) + 48'd1) << 3);
    if (rst) begin
      {count_encode_elements, count_query_spikes, count_score_operations, count_softmax_elements} <= '0;
      {count_probability_spikes, count_value_operations, count_divisions, count_attention_values} <= '0;
      {count_kv_bits_read, count_kv_bits_written, count_score_bits_read, count_score_bits_written} <= '0;
      {count_words_read, count_words_written} <= '0;
    end
  end

  if (LATENCY < 18 + WORDS) begin : g_latency
    $error("ATTEND_LATENCY must be at least 18 + ceil(HEAD_DIM / VECTOR_LANES)");
  end
  if (LANES != 1 << $clog2(LANES) || LANES < 2 || SOFTMAX_LANES < 2) begin : g_lanes
    $error("VECTOR_LANES and SOFTMAX_LANES must be powers of two, at least 2");
  end

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> state_q == IDLE && context_size != '0)
  else $error("start_when_idle: a command is under way, or the context is empty");
  latency_suffices : assert property (@(posedge clk) disable iff (rst) !working && !finished && state_q != IDLE |-> idle_left_q > IDLE_BITS'(1))
  else $error("latency_suffices: ATTEND_LATENCY is too short");
  one_unit : assert property (@(posedge clk) disable iff (rst)
      $countones({encoder_working, scores_working, softmax_working, values_working}) <= 1)
  else $error("one_unit: two units work in one cycle");
  rows_before_scores : assert property (@(posedge clk) disable iff (rst) kv_valid |-> state_q == IDLE || state_q == QUERIES)
  else $error("rows_before_scores: keys or values written during a command");
`endif
endmodule

`default_nettype wire
