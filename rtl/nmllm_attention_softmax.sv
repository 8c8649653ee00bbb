// Softmax of one query head in three passes of ceil(C / SOFTMAX_LANES) cycles (numerics.md, Attention): maximum of z; exponential and sum; coding of
// the probabilities, whose spikes go out a word at a time.
//
// `start` in the cycle of the last z write, or later. `working` is high for the words of the three passes; one idle cycle follows the
// first, four the second (the exponent m must be known). A coded word leaves with `coded_valid` when `coded_ready`; two cycles
// after the last one is `done`, with `sum` of all p. Path of a cycle: tree of SOFTMAX_LANES comparisons, or sums; the code of u (a carry chain of 11 bits).
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
    parameter int unsigned CONTEXT = 1024,
    parameter int unsigned SUM_BITS = 16,
    localparam int unsigned PHASES = 11,
    localparam int unsigned LEAST_PHASE = 5,
    localparam int unsigned HEAD_BITS = GROUP > 1 ? $clog2(GROUP) : 1,
    localparam int unsigned CONTEXT_BITS = $clog2(CONTEXT + 1),
    localparam int unsigned BLOCKS = (CONTEXT + KEY_LANES - 1) / KEY_LANES,
    localparam int unsigned BLOCK_BITS = BLOCKS > 1 ? $clog2(BLOCKS) : 1,
    localparam int unsigned WORDS = (CONTEXT + SOFTMAX_LANES - 1) / SOFTMAX_LANES,
    localparam int unsigned WORD_BITS = WORDS > 1 ? $clog2(WORDS) : 1
) (
    input  logic                                      clk,
    input  logic                                      rst,
    // scaled scores of a block of keys
    input  logic                                      z_valid,
    input  logic [    HEAD_BITS-1:0]                  z_head,
    input  logic [   BLOCK_BITS-1:0]                  z_block,
    input  logic [    KEY_LANES-1:0][23:0]            z,
    // command
    input  logic                                      start,
    input  logic [    HEAD_BITS-1:0]                  head,
    input  logic                                      silent,  // no spike in the query: all z are 0
    input  logic [ CONTEXT_BITS-1:0]                  context_size,
    input  logic [              3:0]                  probability_bits,
    output logic                                      working,
    output logic                                      done,
    output logic [     SUM_BITS-1:0]                  sum,
    output logic [              3:0]                  least,  // m
    // spikes of a word of probabilities
    output logic                                      coded_valid,
    input  logic                                      coded_ready,
    output logic [    WORD_BITS-1:0]                  coded_word,
    output logic [SOFTMAX_LANES-1:0][PHASES-1:0]      coded_fired,  // phases 5 .. 15
    output logic [SOFTMAX_LANES-1:0][PHASES-1:0]      coded_negative
);
  localparam int unsigned GROUP_LANES = KEY_LANES < SOFTMAX_LANES ? KEY_LANES : SOFTMAX_LANES;
  localparam int unsigned WIDE_LANES = KEY_LANES < SOFTMAX_LANES ? SOFTMAX_LANES : KEY_LANES;
  localparam int unsigned GROUPS = WIDE_LANES / GROUP_LANES;
  localparam int unsigned GROUP_BITS = $clog2(GROUPS);
  localparam int unsigned SELECT_BITS = GROUPS > 1 ? GROUP_BITS : 1;
  localparam int unsigned HEAD_ROWS = (CONTEXT + WIDE_LANES - 1) / WIDE_LANES;
  localparam int unsigned Z_BITS = GROUP * HEAD_ROWS > 1 ? $clog2(GROUP * HEAD_ROWS) : 1;
  localparam bit WRITE_WHOLE = KEY_LANES >= SOFTMAX_LANES;
  localparam bit READ_WHOLE = SOFTMAX_LANES >= KEY_LANES;

  typedef enum logic [2:0] {IDLE, MAXIMUM, MAXIMUM_END, EXPONENTIAL, EXPONENTIAL_END, PREPARE, CODE} state_t;

  state_t state_q;
  logic [WORD_BITS-1:0] word_q, last_word;
  logic reading, last;

  // score memory: GROUPS groups of lanes
  logic [GROUPS-1:0][GROUP_LANES-1:0][23:0] z_data;
  logic [SOFTMAX_LANES-1:0][23:0] z_word;
  logic [SELECT_BITS-1:0] z_select_q;

  // stages after the address
  logic second;  // pass
  logic s1_q, s2_q, s3_q;  // word read; in the second pass then distance, exponential
  logic maximum_valid_q;  // in the first the word's maximum
  logic [WORD_BITS-1:0] s1_word_q, s2_word_q, s3_word_q;
  logic [SOFTMAX_LANES-1:0] visible, s2_visible_q;
  logic signed [23:0] word_maximum_q, maximum_q;
  logic [23:0] distance_q[SOFTMAX_LANES];
  logic [SOFTMAX_LANES-1:0][15:0] u_q, u_word;
  logic [29:0] total_q;
  logic p_valid_q, p_last_q;
  logic [PHASES-1:0] p_q[SOFTMAX_LANES];

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

  for (genvar g = 0; g < GROUPS; ++g) begin : g_scores
    nmllm_ram #(
        .WIDTH(24 * GROUP_LANES),
        .DEPTH(GROUP * HEAD_ROWS)
    ) u_scores (
        .clk,
        .write_enable(z_valid && (WRITE_WHOLE || 32'(z_block) % GROUPS == g)),
        .write_address(Z_BITS'(32'(z_head) * HEAD_ROWS + (WRITE_WHOLE ? 32'(z_block) : 32'(z_block) / GROUPS))),
        .write_data(z[(WRITE_WHOLE?g:0)*GROUP_LANES+:GROUP_LANES]),
        .read_enable(reading && !silent && (READ_WHOLE || 32'(word_q) % GROUPS == g)),
        .read_address(Z_BITS'(32'(head) * HEAD_ROWS + (READ_WHOLE ? 32'(word_q) : 32'(word_q) / GROUPS))),
        .read_data(z_data[g])
    );
  end

  nmllm_ram #(
      .WIDTH(16 * SOFTMAX_LANES),
      .DEPTH(WORDS)
  ) u_weights (
      .clk,
      .write_enable(s3_q),
      .write_address(s3_word_q),
      .write_data(u_q),
      .read_enable(state_q == PREPARE || (coded_valid && coded_ready && !last)),
      .read_address(state_q == PREPARE ? '0 : word_q + WORD_BITS'(1)),
      .read_data(u_word)
  );

  always_comb begin
    for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) begin
      visible[i] = 32'(s1_word_q) * SOFTMAX_LANES + i < 32'(context_size);
      if (silent) z_word[i] = '0;
      else z_word[i] = z_data[READ_WHOLE ? SELECT_BITS'(i / GROUP_LANES) : z_select_q][i%GROUP_LANES];
    end
  end

  // sequence
  always_ff @(posedge clk) begin
    unique case (state_q)
      IDLE: if (start) state_q <= MAXIMUM;
      MAXIMUM: if (last) state_q <= MAXIMUM_END;
      MAXIMUM_END: state_q <= EXPONENTIAL;
      EXPONENTIAL: if (last) state_q <= EXPONENTIAL_END;
      EXPONENTIAL_END: if (!s1_q && !s2_q && s3_q) state_q <= PREPARE;
      PREPARE: state_q <= CODE;
      CODE: if (last && coded_ready) state_q <= IDLE;
      default: state_q <= IDLE;
    endcase
    if (reading || (coded_valid && coded_ready)) word_q <= last ? '0 : word_q + WORD_BITS'(1);
    z_select_q <= SELECT_BITS'(32'(word_q) % GROUPS);
    s1_q <= reading;
    maximum_valid_q <= s1_q && !second;
    s2_q <= s1_q && second;
    s3_q <= s2_q;
    s1_word_q <= word_q;
    s2_word_q <= s1_word_q;
    s3_word_q <= s2_word_q;
    if (rst) begin
      state_q <= IDLE;
      word_q <= '0;
      {maximum_valid_q, s1_q, s2_q, s3_q} <= '0;
    end
  end

  // maximum, exponential, sum
  always_ff @(posedge clk) begin
    if (s1_q) begin
      automatic logic signed [23:0] largest = 24'sh80_0000;
      for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) if (visible[i] && signed'(z_word[i]) > largest) largest = z_word[i];
      word_maximum_q <= largest;
      if (second) for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) distance_q[i] <= maximum_q - z_word[i];
      s2_visible_q <= visible;
    end
    if (start) maximum_q <= 24'sh80_0000;
    else if (maximum_valid_q && word_maximum_q > maximum_q) maximum_q <= word_maximum_q;
    if (s2_q) for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) u_q[i] <= s2_visible_q[i] ? power(distance_q[i]) : '0;
    if (start) total_q <= '0;
    else if (s3_q) begin
      automatic logic [29:0] total = total_q;
      for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) total += 30'(u_q[i]);
      total_q <= total;
    end
    if (state_q == PREPARE) begin
      automatic logic [4:0] places = bit_length(total_q) - 5'd1 - 5'(probability_bits);
      least <= places > 5'd14 ? 4'd14 : places[3:0];
    end
  end

  // coding: the spikes of a word leave at once, its p are added a cycle later
  code_t code[SOFTMAX_LANES];

  always_comb begin
    for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) begin
      code[i] = coded_valid ? coded(u_word[i], least) : '0;
      coded_fired[i] = code[i].fired;
      coded_negative[i] = code[i].negative;
    end
  end

  always_ff @(posedge clk) begin
    p_valid_q <= coded_valid && coded_ready;
    p_last_q <= coded_valid && coded_ready && last;
    done <= p_last_q;
    if (coded_valid && coded_ready) begin
      for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) p_q[i] <= PHASES'(u_word[i] >> least) + PHASES'(code[i].below);
    end
    if (start) sum <= '0;
    else if (p_valid_q) begin
      automatic logic [SUM_BITS-1:0] partial = sum;
      for (int unsigned i = 0; i < SOFTMAX_LANES; ++i) partial += SUM_BITS'(p_q[i]);
      sum <= partial;
    end
    if (rst) {p_valid_q, p_last_q, done} <= '0;
  end

  if (WIDE_LANES % GROUP_LANES != 0 || SOFTMAX_LANES != 1 << $clog2(SOFTMAX_LANES) || KEY_LANES != 1 << $clog2(KEY_LANES)) begin : g_lanes
    $error("KEY_LANES and SOFTMAX_LANES must be powers of two");
  end

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> state_q == IDLE && context_size != '0)
  else $error("start_when_idle: a softmax is under way, or the context is empty");
  least_phase : assert property (@(posedge clk) disable iff (rst) coded_valid |-> 32'(least) >= LEAST_PHASE)
  else $error("least_phase: m is %0d, probability_bits must lie in 1..10", least);
  sum_fits : assert property (@(posedge clk) disable iff (rst) p_valid_q |=> $past(sum) <= sum)
  else $error("sum_fits: the sum of probabilities exceeds %0d bits", SUM_BITS);
`endif
endmodule

`default_nettype wire
