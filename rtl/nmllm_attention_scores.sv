// Scores of a head group (timing.md, attend): keeps the query spikes, then adds one spike of each head of a set per cycle to the head's score
// registers for KEY_LANES keys, and hands on the scaled scores z of a block of keys.
//
// `start` one cycle after the last spikes were taken; one cycle later `working` is high for the steps of every block without a gap; `done` two
// cycles after the last one, together with the last z (at once if there is no spike). Spikes in the order element, set, phase, those of the heads of a
// set side by side; an element is read once a block however many spikes it has. The z of a head leave two cycles after its last spike of the block, which
// frees its registers: head h of every set has the z port h. Heads without spikes have no z (they are 0).
// Paths of a cycle: next element (priority over HEAD_DIM) and its spikes; shift, sum; exponent, rounding shift, saturation.
`default_nettype none

module nmllm_attention_scores #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned KEY_LANES = nmllm_pkg::KEY_LANES,
    parameter int unsigned HEAD_DIM = 64,
    parameter int unsigned GROUP = 4,
    parameter int unsigned SET = 1,  // heads taken at once
    parameter int unsigned BLOCKS = 64,
    localparam int unsigned DIM_BITS = $clog2(HEAD_DIM + 1),
    localparam int unsigned INDEX_BITS = $clog2(HEAD_DIM),
    localparam int unsigned HEAD_BITS = GROUP > 1 ? $clog2(GROUP) : 1,
    localparam int unsigned SETS = (GROUP + SET - 1) / SET,
    localparam int unsigned SET_BITS = SETS > 1 ? $clog2(SETS) : 1,
    localparam int unsigned KEY_ADDRESS_BITS = $clog2(BLOCKS * HEAD_DIM),
    localparam int unsigned BLOCK_BITS = BLOCKS > 1 ? $clog2(BLOCKS) : 1,
    localparam int unsigned KEY_LANE_BITS = $clog2(KEY_LANES),
    parameter int unsigned PHASES = 10,
    localparam int unsigned WORD_SPIKE_BITS = $clog2(LANES * PHASES + 1),
    localparam int unsigned SPIKE_BITS = $clog2(HEAD_DIM * GROUP * PHASES + 1),
    localparam int unsigned SCORE_BITS = SETS * SET > 1 ? $clog2(SETS * SET) : 1
) (
    input  logic                                clk,
    input  logic                                rst,
    // query spikes of a word, from the encoder: phase t of a lane in bit t
    input  logic                                clear,
    input  logic [       LANES-1:0][PHASES-1:0] spike_fired,
    input  logic [       LANES-1:0][PHASES-1:0] spike_negative,
    input  logic [WORD_SPIKE_BITS-1:0]          spike_count,
    input  logic [    DIM_BITS-1:0]             spike_element,
    input  logic [   HEAD_BITS-1:0]             spike_head,
    // command
    input  logic                                start,
    input  logic [    DIM_BITS-1:0]             head_dim,
    input  logic [  BLOCK_BITS-1:0]             last_block,
    input  logic [KEY_ADDRESS_BITS-1:0]         key_base,  // of element 0 of block 0
    input  logic [  BLOCK_BITS-1:0]             block_base,
    input  logic signed [      7:0]             places,  // 2 f_qkv - 8
    input  logic [       GROUP-1:0][3:0]        phases,
    input  logic [       GROUP-1:0][4:0]        exponent,
    output logic                                working,
    output logic [         SET-1:0]             adding,  // heads of the set
    output logic                                done,
    output logic [  SPIKE_BITS-1:0]             spikes,  // of all heads
    output logic [       GROUP-1:0]             silent,  // heads without a spike
    // key memory
    output logic                                key_enable,
    output logic [KEY_ADDRESS_BITS-1:0]         key_address,
    output logic [KEY_LANE_BITS-1:0]            key_skew,
    input  logic [   KEY_LANES-1:0][7:0]        keys,
    output logic                                exponent_enable,
    output logic [  BLOCK_BITS-1:0]             exponent_block,
    input  logic [   KEY_LANES-1:0][4:0]        key_exponents,
    output logic                                in_last_block,  // of the spikes added in this cycle
    // scaled scores
    output logic [         SET-1:0]             z_valid,
    output logic [    SET_BITS-1:0]             z_set,
    output logic [  BLOCK_BITS-1:0]             z_block,
    output logic [         SET-1:0][KEY_LANES-1:0][23:0] z
);
  // The spikes of an element: bit 16 * head + phase.
  typedef logic [GROUP-1:0][15:0] element_spikes_t;

  element_spikes_t fired_q[HEAD_DIM], negative_q[HEAD_DIM];
  logic [HEAD_DIM-1:0] occupied_q;
  logic [GROUP-1:0][SPIKE_BITS-1:0] head_spikes_q, left_q;

  // next spikes
  logic active_q, fresh_q, opens_q;
  logic [INDEX_BITS-1:0] element_q, following;
  element_spikes_t bits_q, signs_q, chosen, rest;
  logic [HEAD_DIM-1:0] beyond, candidates, lowest;
  logic [SET_BITS-1:0] set;
  logic [SET-1:0][HEAD_BITS-1:0] head;
  logic [SET-1:0][3:0] phase;
  logic last_in_block;
  logic [BLOCK_BITS-1:0] block_q;
  logic [KEY_ADDRESS_BITS-1:0] block_address_q;

  // spikes being added, of every head of the set
  logic [SET-1:0] add_valid_q, add_negative_q, add_first_q, add_last_q;
  logic add_opens_q, add_final_q;
  logic [SET_BITS-1:0] add_set_q;
  logic [SET-1:0][3:0] add_shift_q;
  logic [BLOCK_BITS-1:0] add_block_q;
  logic signed [31:0] score_q[SETS*SET][KEY_LANES];

  // scores being scaled
  logic z_final_q;
  logic signed [8:0] head_places_q[SET];

  // Arithmetic shift with rounding, or to the left by up to 24 places; saturated to 24 bits.
  function automatic logic [23:0] scaled(input logic signed [31:0] score, input logic signed [8:0] shift);
    automatic logic signed [56:0] wide;
    automatic logic [5:0] right = shift > 9'sd34 ? 6'd34 : shift[5:0];
    automatic logic [4:0] left = shift < -9'sd24 ? 5'd24 : 5'(-shift);
    if (shift > 9'sd0) wide = (57'(score) + signed'(57'd1 << (right - 6'd1))) >>> right;
    else wide = 57'(score) <<< left;
    if (wide > 57'sh7f_ffff) scaled = 24'h7f_ffff;
    else if (wide < -57'sh80_0000) scaled = 24'h80_0000;
    else scaled = wide[23:0];
  endfunction

  // query spikes
  always_ff @(posedge clk) begin
    if (clear) begin
      for (int unsigned i = 0; i < HEAD_DIM; ++i) fired_q[i] <= '0;
      occupied_q <= '0;
      head_spikes_q <= '0;
      spikes <= '0;
      silent <= '1;
    end else if (spike_count != '0) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        automatic logic [INDEX_BITS-1:0] at = INDEX_BITS'(32'(spike_element) + i);
        for (int unsigned t = 0; t < PHASES; ++t) begin
          if (spike_fired[i][t]) begin
            fired_q[at][spike_head][t] <= 1'b1;
            negative_q[at][spike_head][t] <= spike_negative[i][t];
            occupied_q[at] <= 1'b1;
          end
        end
      end
      head_spikes_q[spike_head] <= head_spikes_q[spike_head] + SPIKE_BITS'(spike_count);
      spikes <= spikes + SPIKE_BITS'(spike_count);
      silent[spike_head] <= 1'b0;
    end
  end

  // next spikes: of the lowest set with one left of the element, the lowest phase of each head; the next element with a spike, after the last the first
  assign beyond = active_q ? occupied_q & ~((HEAD_DIM'(2) << element_q) - HEAD_DIM'(1)) : '0;
  assign candidates = beyond != '0 ? beyond : occupied_q;
  assign lowest = candidates & -candidates;
  assign rest = bits_q ^ chosen;
  assign last_in_block = rest == '0 && beyond == '0;
  assign working = active_q;
  assign in_last_block = block_q == last_block;
  assign key_enable = active_q && fresh_q;
  assign key_address = block_address_q + KEY_ADDRESS_BITS'(element_q);
  assign key_skew = KEY_LANE_BITS'(element_q);

  always_comb begin
    following = '0;
    for (int unsigned i = 0; i < HEAD_DIM; ++i) if (lowest[i]) following |= INDEX_BITS'(i);
    set = '0;
    for (int unsigned g = GROUP; g > 0; --g) if (bits_q[g-1] != '0) set = SET_BITS'((g - 1) / SET);
    chosen = '0;
    phase = '0;
    for (int unsigned h = 0; h < SET; ++h) begin
      head[h] = HEAD_BITS'(32'(set) * SET + h);
      adding[h] = active_q && 32'(set) * SET + h < GROUP && bits_q[head[h]] != '0;
      if (32'(set) * SET + h < GROUP) chosen[head[h]] = bits_q[head[h]] & -bits_q[head[h]];
      for (int unsigned t = 0; t < PHASES; ++t) if (adding[h] && chosen[head[h]][t]) phase[h] |= 4'(t);
    end
  end

  always_ff @(posedge clk) begin
    if (start && occupied_q != '0) begin
      active_q <= 1'b1;
      block_q <= '0;
      block_address_q <= key_base;
    end
    if (start || (active_q && rest == '0)) begin
      element_q <= following;
      bits_q <= fired_q[following];
      signs_q <= negative_q[following];
      fresh_q <= 1'b1;
    end else if (active_q) begin
      bits_q <= rest;
      fresh_q <= 1'b0;
    end
    if (start || (active_q && last_in_block)) left_q <= head_spikes_q;
    else for (int unsigned h = 0; h < SET; ++h) if (adding[h]) left_q[head[h]] <= left_q[head[h]] - SPIKE_BITS'(1);
    opens_q <= start || (active_q ? last_in_block : opens_q);
    if (active_q && last_in_block) begin
      block_q <= block_q + BLOCK_BITS'(1);
      block_address_q <= block_address_q + KEY_ADDRESS_BITS'(head_dim);
      if (in_last_block) active_q <= 1'b0;
    end
    add_valid_q <= adding;
    if (active_q) begin
      for (int unsigned h = 0; h < SET; ++h) begin
        add_negative_q[h] <= (chosen[head[h]] & signs_q[head[h]]) != '0;
        add_first_q[h] <= left_q[head[h]] == head_spikes_q[head[h]];
        add_last_q[h] <= adding[h] && left_q[head[h]] == SPIKE_BITS'(1);
        add_shift_q[h] <= phases[head[h]] - 4'd1 - phase[h];
      end
      add_set_q <= set;
      add_block_q <= block_q;
    end
    add_opens_q <= active_q && opens_q;
    add_final_q <= active_q && last_in_block && in_last_block;
    if (rst) {active_q, add_valid_q, add_opens_q, add_final_q} <= '0;
  end

  // Exponents are read a cycle after the block's first key element: the block before may still need its own.
  assign exponent_enable = add_opens_q;
  assign exponent_block = block_base + add_block_q;

  always_ff @(posedge clk) begin
    for (int unsigned h = 0; h < SET; ++h) begin
      if (add_valid_q[h]) begin
        for (int unsigned a = 0; a < KEY_LANES; ++a) begin
          automatic logic signed [31:0] step = 32'(signed'(keys[a])) <<< add_shift_q[h];
          automatic logic signed [31:0] old = add_first_q[h] ? '0 : score_q[SCORE_BITS'(32'(add_set_q)*SET+h)][a];
          score_q[SCORE_BITS'(32'(add_set_q)*SET+h)][a] <= add_negative_q[h] ? old - step : old + step;
        end
        head_places_q[h] <= 9'(places) - 9'(signed'({1'b0, exponent[HEAD_BITS'(32'(add_set_q)*SET+h)]}));
      end
      z_valid[h] <= add_valid_q[h] && add_last_q[h];
    end
    z_set <= add_set_q;
    z_block <= add_block_q;
    z_final_q <= add_final_q;
    if (rst) {z_valid, z_final_q} <= '0;
  end

  // The shifters stand still while scores are being formed.
  always_comb begin
    for (int unsigned h = 0; h < SET; ++h) begin
      for (int unsigned a = 0; a < KEY_LANES; ++a) begin
        z[h][a] = scaled(z_valid[h] ? score_q[SCORE_BITS'(32'(z_set)*SET+h)][a] : '0, head_places_q[h] - 9'(signed'({1'b0, key_exponents[a]})));
      end
    end
  end

  assign done = z_final_q || (start && occupied_q == '0);

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> !active_q && add_valid_q == '0)
  else $error("start_when_idle: scores are being formed");
  spikes_left : assert property (@(posedge clk) disable iff (rst) active_q |-> adding != '0)
  else $error("spikes_left: no spike to add");
  for (genvar h = 0; h < SET; ++h) begin : g_assert
    head_left : assert property (@(posedge clk) disable iff (rst) adding[h] |-> left_q[head[h]] != '0)
    else $error("head_left: head %0d of the set has more spikes than were counted", h);
    one_block_order : assert property (@(posedge clk) disable iff (rst) active_q && last_in_block && adding[h] |-> left_q[head[h]] == SPIKE_BITS'(1))
    else $error("one_block_order: a spike of head %0d of the set is left behind the block", h);
  end
`endif
endmodule

`default_nettype wire
