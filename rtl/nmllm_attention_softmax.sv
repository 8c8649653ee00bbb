// Softmax of a set of query heads in passes of ceil(C / SOFTMAX_LANES) cycles (numerics.md, Attention): head by head the maximum of z, and the exponentials and
// their sum; then for all heads at once the coding of the probabilities, whose spikes go out a word at a time. With MAXIMUM_WRITTEN the maximum is
// taken while z is written, and the first pass is left out.
//
// `start` in the cycle of the last z write, or later. `working` is high for the words of the passes; one idle cycle follows the
// first, four the second (the exponent m must be known). A coded word leaves with `coded_valid` when `coded_ready`; two cycles
// after the last one is `done`, with `sum` of all p of each head. Path of a cycle: tree of SOFTMAX_LANES comparisons (KEY_LANES with MAXIMUM_WRITTEN), or sums; the
// code of u (a carry chain of 11 bits).
//
// Code of u, phases k = 15 .. m, u >= 0. With v the remainder before phase k and r = u mod 2^(k+1), v is r or r - 2^(k+1) since |v| < 1.5 * 2^k: one
// bit, v < 0, goes from phase to phase, and whether one fires depends on bits of u alone. In the end p = (u >> m) + (v < 0).
// The largest key has u = 2^15, so that m = bitlen(U) - 1 - P is never below 5.
`default_nettype none

module nmllm_attention_softmax
  import nmllm_pkg::EXP2;
#(
    parameter int unsigned KEY_LANES = nmllm_pkg::KEY_LANES,
    parameter int unsigned SOFTMAX_LANES = nmllm_pkg::SOFTMAX_LANES,
    parameter int unsigned GROUP = 4,
    parameter int unsigned SET = 1,  // heads coded at once
    parameter bit MAXIMUM_WRITTEN = nmllm_pkg::MAXIMUM_WRITTEN != 0,
    parameter int unsigned CONTEXT = 1024,
    parameter int unsigned SUM_BITS = 16,
    localparam int unsigned PHASES = 11,
    localparam int unsigned LEAST_PHASE = 5,
    localparam int unsigned SETS = (GROUP + SET - 1) / SET,
    localparam int unsigned SET_BITS = SETS > 1 ? $clog2(SETS) : 1,
    localparam int unsigned LANE_BITS = SET > 1 ? $clog2(SET) : 1,
    localparam int unsigned CONTEXT_BITS = $clog2(CONTEXT + 1),
    localparam int unsigned BLOCKS = (CONTEXT + KEY_LANES - 1) / KEY_LANES,
    localparam int unsigned BLOCK_BITS = BLOCKS > 1 ? $clog2(BLOCKS) : 1,
    localparam int unsigned WORDS = (CONTEXT + SOFTMAX_LANES - 1) / SOFTMAX_LANES,
    localparam int unsigned WORD_BITS = WORDS > 1 ? $clog2(WORDS) : 1
) (
    input  logic                                      clk,
    input  logic                                      rst,
    // scaled scores of a block of keys, of each head of a set
    input  logic                                      clear,  // of all heads: maxima
    input  logic [          SET-1:0]                  z_valid,
    input  logic [     SET_BITS-1:0]                  z_set,
    input  logic [   BLOCK_BITS-1:0]                  z_block,
    input  logic [          SET-1:0][KEY_LANES-1:0][23:0] z,
    // command
    input  logic                                      start,
    input  logic [     SET_BITS-1:0]                  set,
    input  logic [    LANE_BITS-1:0]                  last_head,  // of the set
    input  logic [          SET-1:0]                  silent,  // no spike in the query: all z are 0
    input  logic [ CONTEXT_BITS-1:0]                  context_size,
    input  logic [              3:0]                  probability_bits,
    output logic                                      working,
    output logic                                      done,
    output logic [          SET-1:0][SUM_BITS-1:0]    sum,
    output logic [          SET-1:0][3:0]             least,  // m
    // spikes of a word of probabilities of each head
    output logic                                      coded_valid,
    input  logic                                      coded_ready,
    output logic [    WORD_BITS-1:0]                  coded_word,
    output logic [          SET-1:0][SOFTMAX_LANES-1:0][PHASES-1:0] coded_fired,  // phases 5 .. 15
    output logic [          SET-1:0][SOFTMAX_LANES-1:0][PHASES-1:0] coded_negative
);
  localparam int unsigned HEAD_BITS = SETS * SET > 1 ? $clog2(SETS * SET) : 1;
  localparam int unsigned GROUP_LANES = KEY_LANES < SOFTMAX_LANES ? KEY_LANES : SOFTMAX_LANES;
  localparam int unsigned WIDE_LANES = KEY_LANES < SOFTMAX_LANES ? SOFTMAX_LANES : KEY_LANES;
  localparam int unsigned GROUPS = WIDE_LANES / GROUP_LANES;
  localparam int unsigned GROUP_BITS = $clog2(GROUPS);
  localparam int unsigned SELECT_BITS = GROUPS > 1 ? GROUP_BITS : 1;
  localparam int unsigned HEAD_ROWS = (CONTEXT + WIDE_LANES - 1) / WIDE_LANES;
  localparam int unsigned Z_BITS = SETS * HEAD_ROWS > 1 ? $clog2(SETS * HEAD_ROWS) : 1;
  localparam bit WRITE_WHOLE = KEY_LANES >= SOFTMAX_LANES;
  localparam bit READ_WHOLE = SOFTMAX_LANES >= KEY_LANES;

  typedef enum logic [2:0] {IDLE, MAXIMUM, MAXIMUM_END, EXPONENTIAL, EXPONENTIAL_END, PREPARE, CODE} state_t;

  localparam state_t FIRST = MAXIMUM_WRITTEN ? EXPONENTIAL : MAXIMUM;  // pass of a head

  state_t state_q;
  logic [WORD_BITS-1:0] word_q, last_word;
  logic reading, last;

  // score memory of each head of a set: GROUPS groups of lanes
  logic [SET-1:0][GROUPS-1:0][GROUP_LANES-1:0][23:0] z_data;
  logic [SOFTMAX_LANES-1:0][23:0] z_word;
  logic [SELECT_BITS-1:0] z_select_q;

  // stages after the address
  logic [LANE_BITS-1:0] head_q;  // of the set
  logic head_last, ended;
  logic [SET-1:0] taken;  // heads that the set has
  logic second;  // pass
  logic s1_q, s2_q, s3_q;  // word read; then distance, exponential
  logic [WORD_BITS-1:0] s1_word_q, s2_word_q, s3_word_q;
  logic [SOFTMAX_LANES-1:0] visible, s2_visible_q;
  logic signed [23:0] maximum;  // of the head
  logic [23:0] distance_q[SOFTMAX_LANES];
  logic [SOFTMAX_LANES-1:0][15:0] u_q;
  logic [SET-1:0][SOFTMAX_LANES-1:0][15:0] u_word;
  logic [29:0] total_q;
  logic p_valid_q, p_last_q;
  logic [PHASES-1:0] p_q[SET][SOFTMAX_LANES];

  typedef struct packed {
    logic [PHASES-1:0] fired;
    logic [PHASES-1:0] negative;
    logic below;  // the remainder is negative
  } code_t;

  // All phases at once, 5 in bit 0: `rises` makes v < 0 for the next phase, unless it `falls` v < 0 stays so. That is the carry of an addition
  // from the most significant phase down.
  function automatic code_t coded(input logic [15:0] u, input logic [3:0] m);
    automatic logic [PHASES-1:0] even = PHASES'((u ^ (u - 16'd1)) >> 3);  // u[k-3:0] is 0
    automatic logic [PHASES-1:0] one = u[15:5];
    automatic logic [PHASES-1:0] above = one | (u[14:4] & u[13:3]);  // r >= 0.75 * 2^k
    automatic logic [PHASES-1:0] under = ~one | (~u[14:4] & (~u[13:3] | even));  // r <= 1.25 * 2^k
    automatic logic [PHASES-1:0] allowed = PHASES'('1) << (m - 4'(LEAST_PHASE));
    automatic logic [PHASES-1:0] rises = {<<{above & ~one & allowed}};
    automatic logic [PHASES-1:0] stays = {<<{~(one & under & allowed)}};
    automatic logic [PHASES:0] carry = ({1'b0, rises} + {1'b0, stays}) ^ {1'b0, rises} ^ {1'b0, stays};
    coded.below = carry[PHASES];
    coded.negative = {<<{carry[PHASES-1:0]}};
    coded.fired = allowed & ((coded.negative & under) | (~coded.negative & above));
  endfunction

  function automatic logic [15:0] power(input logic [23:0] distance);
    automatic logic [16:0] mantissa = {1'b0, EXP2[distance[7:0]]};
    automatic logic [4:0] places = distance[12:8];
    power = distance[23:8] >= 16'd17 ? '0 : 16'((mantissa + ((17'd1 << places) >> 1)) >> places);
  endfunction

  function automatic logic [4:0] bit_length(input logic [29:0] value);
    bit_length = '0;
    for (int unsigned i = 0; i < 30; ++i) if (value[i]) bit_length = 5'(i + 1);
  endfunction

  assign last_word = WORD_BITS'((32'(context_size) - 1) / SOFTMAX_LANES);
  assign last = word_q == last_word;
  assign reading = state_q == MAXIMUM || state_q == EXPONENTIAL;
  assign second = state_q == EXPONENTIAL || state_q == EXPONENTIAL_END;
  assign coded_valid = state_q == CODE;
  assign coded_word = word_q;
  assign working = reading || (coded_valid && coded_ready);
  assign head_last = head_q == last_head;
  assign ended = state_q == PREPARE && head_last;

  for (genvar h = 0; h < SET; ++h) begin : g_head
    for (genvar g = 0; g < GROUPS; ++g) begin : g_scores
      nmllm_ram #(
          .WIDTH(24 * GROUP_LANES),
          .DEPTH(SETS * HEAD_ROWS)
      ) u_scores (
          .clk,
          .write_enable(z_valid[h] && (WRITE_WHOLE || 32'(z_block) % GROUPS == g)),
          .write_address(Z_BITS'(32'(z_set) * HEAD_ROWS + (WRITE_WHOLE ? 32'(z_block) : 32'(z_block) / GROUPS))),
          .write_data(z[h][(WRITE_WHOLE?g:0)*GROUP_LANES+:GROUP_LANES]),
          .read_enable(reading && 32'(head_q) == h && !silent[h] && (READ_WHOLE || 32'(word_q) % GROUPS == g)),
          .read_address(Z_BITS'(32'(set) * HEAD_ROWS + (READ_WHOLE ? 32'(word_q) : 32'(word_q) / GROUPS))),
          .read_data(z_data[h][g])
      );
    end

    nmllm_ram #(
        .WIDTH(16 * SOFTMAX_LANES),
        .DEPTH(WORDS)
    ) u_weights (
        .clk,
        .write_enable(s3_q && 32'(head_q) == h),
        .write_address(s3_word_q),
        .write_data(u_q),
        .read_enable(ended || (coded_valid && coded_ready && !last)),
        .read_address(ended ? '0 : word_q + WORD_BITS'(1)),
        .read_data(u_word[h])
    );
  end

  always_comb begin
    for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) begin
      visible[i] = 32'(s1_word_q) * SOFTMAX_LANES + i < 32'(context_size);
      if (silent[head_q]) z_word[i] = '0;
      else z_word[i] = z_data[head_q][READ_WHOLE ? SELECT_BITS'(i / GROUP_LANES) : z_select_q][i%GROUP_LANES];
    end
  end

  // sequence
  always_ff @(posedge clk) begin
    unique case (state_q)
      IDLE: if (start) state_q <= FIRST;
      MAXIMUM: if (last) state_q <= MAXIMUM_END;
      MAXIMUM_END: state_q <= EXPONENTIAL;
      EXPONENTIAL: if (last) state_q <= EXPONENTIAL_END;
      EXPONENTIAL_END: if (!s1_q && !s2_q && s3_q) state_q <= PREPARE;
      PREPARE: state_q <= head_last ? CODE : FIRST;
      CODE: if (last && coded_ready) state_q <= IDLE;
      default: state_q <= IDLE;
    endcase
    if (reading || (coded_valid && coded_ready)) word_q <= last ? '0 : word_q + WORD_BITS'(1);
    if (start) head_q <= '0;
    else if (state_q == PREPARE && !head_last) head_q <= head_q + LANE_BITS'(1);
    z_select_q <= SELECT_BITS'(32'(word_q) % GROUPS);
    s1_q <= reading;
    s2_q <= s1_q && second;
    s3_q <= s2_q;
    s1_word_q <= word_q;
    s2_word_q <= s1_word_q;
    s3_word_q <= s2_word_q;
    if (rst) begin
      state_q <= IDLE;
      word_q <= '0;
      {s1_q, s2_q, s3_q} <= '0;
    end
  end

  // maximum: of a word in its cycle, of all words a cycle later
  if (MAXIMUM_WRITTEN) begin : g_written
    logic [SET-1:0] valid_q;
    logic [SET_BITS-1:0] set_q;
    logic signed [SET-1:0][23:0] block_maximum_q;
    logic signed [23:0] maximum_q[SETS*SET];
    always_ff @(posedge clk) begin
      valid_q <= z_valid;
      set_q <= z_set;
      for (int unsigned h = 0; h < SET; ++h) begin
        automatic logic signed [23:0] largest = 24'sh80_0000;
        for (int unsigned a = 0; a < KEY_LANES; ++a) begin
          if (32'(z_block) * KEY_LANES + a < 32'(context_size) && signed'(z[h][a]) > largest) largest = z[h][a];
        end
        if (z_valid[h]) block_maximum_q[h] <= largest;
        if (valid_q[h] && signed'(block_maximum_q[h]) > maximum_q[HEAD_BITS'(32'(set_q)*SET+h)]) begin
          maximum_q[HEAD_BITS'(32'(set_q)*SET+h)] <= block_maximum_q[h];
        end
      end
      if (clear) for (int unsigned i = 0; i < SETS * SET; ++i) maximum_q[i] <= 24'sh80_0000;
      if (rst) valid_q <= '0;
    end
    assign maximum = silent[head_q] ? '0 : maximum_q[HEAD_BITS'(32'(set)*SET+32'(head_q))];
  end else begin : g_read
    logic valid_q;
    logic signed [23:0] word_maximum_q, maximum_q;
    always_ff @(posedge clk) begin
      valid_q <= s1_q && !second;
      if (s1_q && !second) begin
        automatic logic signed [23:0] largest = 24'sh80_0000;
        for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) if (visible[i] && signed'(z_word[i]) > largest) largest = z_word[i];
        word_maximum_q <= largest;
      end
      if (start || state_q == PREPARE) maximum_q <= 24'sh80_0000;
      else if (valid_q && word_maximum_q > maximum_q) maximum_q <= word_maximum_q;
      if (rst) valid_q <= 1'b0;
    end
    assign maximum = maximum_q;
    wire unused = &{1'b0, clear};
  end

  // exponential, sum
  always_ff @(posedge clk) begin
    if (s1_q) begin
      if (second) for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) distance_q[i] <= maximum - z_word[i];
      s2_visible_q <= visible;
    end
    if (s2_q) for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) u_q[i] <= s2_visible_q[i] ? power(distance_q[i]) : '0;
    if (start || state_q == PREPARE) total_q <= '0;
    else if (s3_q) begin
      automatic logic [29:0] total = total_q;
      for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) total += 30'(u_q[i]);
      total_q <= total;
    end
    if (state_q == PREPARE) begin
      automatic logic [4:0] places = bit_length(total_q) - 5'd1 - 5'(probability_bits);
      least[head_q] <= places > 5'd14 ? 4'd14 : places[3:0];
    end
  end

  // coding: the spikes of a word leave at once, its p are added a cycle later
  code_t code[SET][SOFTMAX_LANES];

  always_comb begin
    for (int unsigned h = 0; h < SET; ++h) begin
      taken[h] = h <= 32'(last_head);
      for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) begin
        code[h][i] = coded_valid && taken[h] ? coded(u_word[h][i], least[h]) : '0;
        coded_fired[h][i] = code[h][i].fired;
        coded_negative[h][i] = code[h][i].negative;
      end
    end
  end

  always_ff @(posedge clk) begin
    p_valid_q <= coded_valid && coded_ready;
    p_last_q <= coded_valid && coded_ready && last;
    done <= p_last_q;
    if (coded_valid && coded_ready) begin
      for (int unsigned h = 0; h < SET; ++h) begin
        for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) p_q[h][i] <= PHASES'(u_word[h][i] >> least[h]) + PHASES'(code[h][i].below);
      end
    end
    if (start) sum <= '0;
    else if (p_valid_q) begin
      for (int unsigned h = 0; h < SET; ++h) begin
        automatic logic [SUM_BITS-1:0] partial = sum[h];
        for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) partial += SUM_BITS'(p_q[h][i]);
        sum[h] <= partial;
      end
    end
    if (rst) {p_valid_q, p_last_q, done} <= '0;
  end

  if (WIDE_LANES % GROUP_LANES != 0 || SOFTMAX_LANES != 1 << $clog2(SOFTMAX_LANES) || KEY_LANES != 1 << $clog2(KEY_LANES)) begin : g_lanes
    $error("KEY_LANES and SOFTMAX_LANES must be powers of two");
  end

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> state_q == IDLE && context_size != '0)
  else $error("start_when_idle: a softmax is under way, or the context is empty");
  for (genvar h = 0; h < SET; ++h) begin : g_assert
    least_phase : assert property (@(posedge clk) disable iff (rst) coded_valid && taken[h] |-> 32'(least[h]) >= LEAST_PHASE)
    else $error("least_phase: m is %0d, probability_bits must lie in 1..10", least[h]);
    sum_fits : assert property (@(posedge clk) disable iff (rst) p_valid_q && taken[h] |=> $past(sum[h]) <= sum[h])
    else $error("sum_fits: the sum of probabilities exceeds %0d bits", SUM_BITS);
  end
`endif
endmodule

`default_nettype wire
