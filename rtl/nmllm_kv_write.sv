// Quantises the keys and values of one token to 8 bits with one exponent per vector, for the engines' key/value memories (numerics.md, Attention).
// With `centred` the keys first lose their offsets, which lie lane by lane as the keys do, in words from `offset_base` on of another memory.
//
// The vector holds the keys of all key/value heads, then their values, D elements each. With D <= LANES a word holds LANES / D vectors
// (groups of D lanes), and the first key may stand at lane `offset`. With D > LANES the words of a vector wait in a small memory until
// its largest magnitude is known, and leave one vector later: the last D / LANES words, of a value, go out up to D / LANES - 2 cycles after
// `done`, while the next instruction (`attend`) encodes its first query.
//
// Command: `start` with `size` (N), `base`, the word of the first key, and its lane; takes P(N) + LATENCY cycles, of which 4 are needed beyond
// P(N). The first address goes out in the cycle of `start`; those of the offsets go out with those of the words that have keys.
// Output: group g of a word, valid if `kv_valid[g]`, is word `kv_word` of vector `kv_vector[g]` (0 .. H - 1 the keys, H .. 2 H - 1 the
// values of the H key/value heads) with its exponent: e_k of a key, e_v of a value.
//
// Register map (cfg_address): 0 D; 1 number of key/value heads H; 32 + h value_base of head h (0..33; beyond that every value is 0).
// Counters: elements (N, each compared for a maximum and read), vectors (exponents written), offsets taken off (N / 2 if `centred`, each read).
`default_nettype none

module nmllm_kv_write #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned LATENCY = nmllm_pkg::VECTOR_LATENCY,
    parameter int unsigned ADDRESS_BITS = $clog2(nmllm_pkg::VECTOR_MEMORY_BYTES / 4 / LANES),
    parameter int unsigned MAX_HEAD_DIM = 256,
    localparam int unsigned HEADS = 32,
    localparam int unsigned VECTOR_BITS = $clog2(2 * HEADS),
    localparam int unsigned GROUPS = LANES / 2,
    localparam int unsigned HEAD_WORDS = MAX_HEAD_DIM / LANES > 1 ? MAX_HEAD_DIM / LANES : 2,
    localparam int unsigned WORD_BITS = $clog2(HEAD_WORDS)
) (
    input  logic                                    clk,
    input  logic                                    rst,
    input  logic                                    cfg_valid,
    input  logic         [                     5:0] cfg_address,
    // Registers are narrower than the bus.
    // verilator lint_off UNUSEDSIGNAL
    input  logic         [                    63:0] cfg_data,
    // verilator lint_on UNUSEDSIGNAL
    // command
    input  logic                                    start,
    input  logic         [                    14:0] size,
    input  logic         [        ADDRESS_BITS-1:0] base,
    input  logic         [       $clog2(LANES)-1:0] offset,
    input  logic                                    centred,
    input  logic         [        ADDRESS_BITS-1:0] offset_base,
    output logic                                    done,
    // vector memory
    output logic                                    read_enable,
    output logic         [        ADDRESS_BITS-1:0] read_address,
    input  logic [ LANES-1:0][                31:0] read_data,
    // memory of the key offsets
    output logic                                    offset_enable,
    output logic         [        ADDRESS_BITS-1:0] offset_address,
    input  logic [ LANES-1:0][                31:0] offset_data,
    // to the attention engines
    output logic [GROUPS-1:0]                       kv_valid,
    output logic [GROUPS-1:0][     VECTOR_BITS-1:0] kv_vector,
    output logic         [           WORD_BITS-1:0] kv_word,
    output logic [ LANES-1:0][                 7:0] kv_data,
    output logic [GROUPS-1:0][                 4:0] kv_exponent,
    // counters
    output logic         [                    47:0] count_elements,
    output logic         [                    47:0] count_vectors,
    output logic         [                    47:0] count_offsets
);
  /* verilator no_inline_module */  // one C++ function for all instances
  localparam int unsigned LANE_BITS = $clog2(LANES);
  localparam int unsigned LEVEL_BITS = $clog2(LANE_BITS + 1);
  localparam int unsigned TIMER_BITS = 16 + $clog2(LATENCY);

  // configuration
  logic [10:0] head_dim_q;
  logic [5:0] kv_heads_q;
  logic [5:0] value_base_q[HEADS];
  logic wide;  // a word holds one vector or more
  logic [WORD_BITS:0] head_words;  // words of a vector, if it is longer than a word
  logic [LEVEL_BITS-1:0] head_level;  // log2 of D, for wide words
  logic [LANE_BITS:0] groups;  // vectors of a word

  // issue
  logic [14:0] left_q, left, words;
  logic [14:0] keys_left_q, keys_left, key_words;  // words that have keys, while their offsets are read; none without offsets
  logic [ADDRESS_BITS-1:0] address_q, offset_address_q;
  logic [TIMER_BITS-1:0] timer_q;
  logic issue;

  // stage 1: read data; vector of lane group 0 (negative before the first key), word of the vector
  logic s1_valid_q, s1_centred_q, s1_vector_end;
  logic [LANES-1:0][31:0] values;  // keys less their offsets, and values
  logic signed [9:0] s1_vector_q;
  logic [WORD_BITS-1:0] s1_word_q;
  logic [31:0] joined_q;  // magnitudes of the vector so far, joined by OR: the length of the largest is that of all
  logic [31:0] level[LANE_BITS+1][LANES];
  logic [31:0] word_q[LANES];

  // stage 2: word with known exponents
  logic s2_valid_q;
  logic [WORD_BITS-1:0] s2_word_q;
  logic [GROUPS-1:0] s2_groups_q;
  logic [VECTOR_BITS-1:0] s2_vector_q[GROUPS];
  logic [4:0] s2_exponent_q[GROUPS];
  logic [5:0] s2_shift_q[GROUPS];
  logic [LANES-1:0][31:0] waiting;
  logic wait_read;
  logic [WORD_BITS-1:0] wait_address;

  function automatic logic [5:0] bit_length(input logic [31:0] value);
    bit_length = '0;
    for (int unsigned i = 0; i < 32; ++i) if (value[i]) bit_length = 6'(i + 1);
  endfunction

  function automatic logic [7:0] quantise(input logic signed [31:0] value, input logic [5:0] places);
    automatic logic signed [33:0] rounded = (34'(value) + signed'((34'd1 << places) >> 1)) >>> places;
    if (rounded > 34'sd127) quantise = 8'h7f;
    else if (rounded < -34'sd128) quantise = 8'h80;
    else quantise = rounded[7:0];
  endfunction

  function automatic logic [31:0] difference(input logic [31:0] value, input logic [31:0] taken);
    automatic logic signed [32:0] exact = 33'(signed'(value)) - 33'(signed'(taken));
    difference = exact[32] == exact[31] ? exact[31:0] : {exact[32], {31{!exact[32]}}};
  endfunction

  assign words = 15'((32'(size) + 32'(offset) + LANES - 1) >> LANE_BITS);
  assign wide = 32'(head_dim_q) <= LANES;
  assign head_words = (WORD_BITS + 1)'(head_dim_q >> LANE_BITS);
  always_comb begin
    head_level = '0;
    for (int unsigned k = 0; k <= LANE_BITS; ++k) if (32'(head_dim_q) == 1 << k) head_level = LEVEL_BITS'(k);
  end
  assign groups = wide ? (LANE_BITS + 1)'(LANES >> head_level) : (LANE_BITS + 1)'(1);

  assign issue = start || left_q != '0;
  assign left = start ? words : left_q;
  assign read_enable = issue;
  assign read_address = start ? base : address_q;
  assign key_words = centred ? 15'((32'(size >> 1) + 32'(offset) + LANES - 1) >> LANE_BITS) : '0;
  assign keys_left = start ? key_words : keys_left_q;
  assign offset_enable = issue && keys_left != '0;
  assign offset_address = start ? offset_base : offset_address_q;
  assign done = timer_q == TIMER_BITS'(1);
  assign s1_vector_end = wide || (WORD_BITS + 1)'(s1_word_q) + (WORD_BITS + 1)'(1) == head_words;

  // The offsets of a word's lanes without a key are 0.
  always_comb begin
    for (int unsigned i = 0; i < LANES; ++i) values[i] = s1_centred_q ? difference(read_data[i], offset_data[i]) : read_data[i];
  end

  // magnitudes of 2^k neighbours, joined
  always_comb begin
    for (int unsigned k = 0; k <= LANE_BITS; ++k) begin
      for (int unsigned i = 0; i < LANES; ++i) level[k][i] = '0;
    end
    if (s1_valid_q) begin
      for (int unsigned i = 0; i < LANES; ++i) level[0][i] = values[i][31] ? -values[i] : values[i];
      for (int unsigned k = 1; k <= LANE_BITS; ++k) begin
        for (int unsigned i = 0; i < LANES >> k; ++i) level[k][i] = level[k-1][2*i] | level[k-1][2*i+1];
      end
    end
  end

  always_ff @(posedge clk) begin
    if (cfg_valid) begin
      if (cfg_address[5]) value_base_q[cfg_address[4:0]] <= cfg_data[5:0];
      else if (cfg_address[0]) kv_heads_q <= cfg_data[5:0];
      else head_dim_q <= cfg_data[10:0];
    end
    if (timer_q != '0) timer_q <= timer_q - TIMER_BITS'(1);
    if (issue) begin
      left_q <= left - 15'd1;
      address_q <= read_address + ADDRESS_BITS'(1);
    end
    if (offset_enable) begin
      keys_left_q <= keys_left - 15'd1;
      offset_address_q <= offset_address + ADDRESS_BITS'(1);
    end
    if (start) begin
      timer_q <= TIMER_BITS'((32'(size) + LANES - 1) >> LANE_BITS) + TIMER_BITS'(LATENCY - 1);
      s1_vector_q <= -signed'(10'(offset >> head_level));
      s1_word_q <= '0;
      joined_q <= '0;
      count_elements <= count_elements + 48'(size);
      count_vectors <= count_vectors + (48'(kv_heads_q) << 1);
      if (centred) count_offsets <= count_offsets + 48'(size >> 1);
    end
    s1_valid_q <= issue;
    s1_centred_q <= offset_enable;
    if (s1_valid_q) begin
      s1_word_q <= s1_vector_end ? '0 : s1_word_q + WORD_BITS'(1);
      joined_q <= s1_vector_end ? '0 : joined_q | level[LANE_BITS][0];
      if (s1_vector_end) s1_vector_q <= s1_vector_q + signed'(10'(groups));
      for (int unsigned i = 0; i < LANES; ++i) word_q[i] <= values[i];
    end
    if (rst) begin
      {left_q, keys_left_q, timer_q, s1_valid_q} <= '0;
      {count_elements, count_vectors, count_offsets} <= '0;
    end
  end

  // exponents, once the last word of a vector is there; the words then leave, one per cycle
  always_ff @(posedge clk) begin
    if (s2_valid_q) begin
      if (wide || (WORD_BITS + 1)'(s2_word_q) + (WORD_BITS + 1)'(1) == head_words) s2_valid_q <= 1'b0;
      s2_word_q <= s2_word_q + WORD_BITS'(1);
    end
    if (s1_valid_q && s1_vector_end) begin
      s2_valid_q <= 1'b1;
      s2_word_q <= '0;
      for (int unsigned g = 0; g < GROUPS; ++g) begin
        automatic logic signed [9:0] vector = s1_vector_q + 10'(g);
        automatic logic [5:0] base_exponent = value_base_q[5'(vector-signed'(10'(kv_heads_q)))];
        automatic logic [5:0] length = bit_length(wide ? level[head_level][g] : joined_q | level[LANE_BITS][0]);
        automatic logic signed [7:0] excess = signed'(8'(length)) - 8'sd7;
        s2_groups_q[g] <= g < 32'(groups) && vector >= 0 && vector < signed'({3'b000, kv_heads_q, 1'b0});
        s2_vector_q[g] <= vector[VECTOR_BITS-1:0];
        if (vector >= signed'(10'(kv_heads_q))) begin
          automatic logic signed [7:0] above = excess - signed'(8'(base_exponent));
          automatic logic [1:0] exponent = above < 0 ? 2'd0 : above > 3 ? 2'd3 : above[1:0];
          s2_exponent_q[g] <= 5'(exponent);
          s2_shift_q[g] <= base_exponent + 6'(exponent);
        end else begin
          s2_exponent_q[g] <= excess < 0 ? '0 : excess[4:0];
          s2_shift_q[g] <= excess < 0 ? '0 : excess[5:0];
        end
      end
    end
    kv_valid <= '0;
    if (s2_valid_q) begin
      kv_valid <= s2_groups_q;
      kv_word <= s2_word_q;
      for (int unsigned g = 0; g < GROUPS; ++g) begin
        kv_vector[g] <= s2_vector_q[g];
        kv_exponent[g] <= s2_exponent_q[g];
      end
      for (int unsigned i = 0; i < LANES; ++i) begin
        kv_data[i] <= quantise(wide ? word_q[i] : waiting[i], s2_shift_q[wide ? i >> head_level : 0]);
      end
    end
    if (rst) begin
      s2_valid_q <= 1'b0;
      kv_valid <= '0;
    end
  end

  // A slot is read in the cycle before its word leaves and is free for the next vector from then on.
  assign wait_read = !wide && ((s1_valid_q && s1_vector_end) || s2_valid_q);
  assign wait_address = s1_valid_q && s1_vector_end ? '0 : s2_word_q + WORD_BITS'(1);

  nmllm_ram #(
      .WIDTH(32 * LANES),
      .DEPTH(1 << WORD_BITS)
  ) u_waiting (
      .clk,
      .write_enable(s1_valid_q && !wide),
      .write_address(s1_word_q),
      .write_data(values),
      .read_enable(wait_read),
      .read_address(wait_address),
      .read_data(waiting)
  );

  if (LATENCY < 4) begin : g_latency
    $error("VECTOR_LATENCY must be at least 4 to write keys and values");
  end
  if (LANES != 1 << LANE_BITS || LANES < 2) begin : g_lanes
    $error("VECTOR_LANES must be a power of two, at least 2");
  end

`ifndef SYNTHESIS
  base_in_range : assert property (@(posedge clk) disable iff (rst) cfg_valid && cfg_address[5] |-> cfg_data <= 64'd33)
  else $error("base_in_range: value_base of head %0d is %0d, expected 0..33", cfg_address[4:0], cfg_data);
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> timer_q <= TIMER_BITS'(1) && size != '0)
  else $error("start_when_idle: keys and values are under way, or the vector is empty");
  head_fits : assert property (@(posedge clk) disable iff (rst) start |->
                               wide ? head_level != '0 : 32'(head_dim_q) <= MAX_HEAD_DIM && (head_dim_q >> (LANE_BITS + 1)) << (LANE_BITS + 1) == head_dim_q)
  else $error("head_fits: head_dim %0d is neither a divisor of %0d lanes nor a multiple of twice as many up to %0d", head_dim_q, LANES, MAX_HEAD_DIM);
  offset_fits : assert property (@(posedge clk) disable iff (rst) start |-> wide || offset == '0)
  else $error("offset_fits: a vector longer than a word begins in lane %0d", offset);
`endif
endmodule

`default_nettype wire
