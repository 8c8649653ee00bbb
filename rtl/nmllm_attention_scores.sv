// Scores of a head group (timing.md, attend): keeps the query spikes, then adds one spike per cycle to the score registers of its head for
// KEY_LANES keys, and hands on the scaled scores z of a block of keys.
//
// `start` one cycle after the last spikes were taken; one cycle later `working` is high for one cycle per spike and block without a gap; `done` two
// cycles after the last one, together with the last z (at once if there is no spike). Spikes in the order element, head, phase; an element is
// read once a block however many spikes it has. The z of a head leave two cycles after its last spike of the block, which frees its registers:
// a head has at least one spike per block, so one z word per cycle is enough. Heads without spikes have no z (they are 0).
// Paths of a cycle: next element (priority over HEAD_DIM) and its spikes; shift, sum; exponent, rounding shift, saturation.
`default_nettype none

module nmllm_attention_scores #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned KEY_LANES = nmllm_pkg::KEY_LANES,
    parameter int unsigned HEAD_DIM = 64,
    parameter int unsigned GROUP = 4,
    parameter int unsigned BLOCKS = 64,
    localparam int unsigned DIM_BITS = $clog2(HEAD_DIM + 1),
    localparam int unsigned INDEX_BITS = $clog2(HEAD_DIM),
    localparam int unsigned HEAD_BITS = GROUP > 1 ? $clog2(GROUP) : 1,
    localparam int unsigned KEY_ADDRESS_BITS = $clog2(BLOCKS * HEAD_DIM),
    localparam int unsigned BLOCK_BITS = BLOCKS > 1 ? $clog2(BLOCKS) : 1,
    localparam int unsigned KEY_LANE_BITS = $clog2(KEY_LANES),
    parameter int unsigned PHASES = 10,
    localparam int unsigned WORD_SPIKE_BITS = $clog2(LANES * PHASES + 1),
    localparam int unsigned SPIKE_BITS = $clog2(HEAD_DIM * GROUP * PHASES + 1)
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
    output logic                                in_last_block,  // of the spike added in this cycle
    // scaled scores
    output logic                                z_valid,
    output logic [   HEAD_BITS-1:0]             z_head,
    output logic [  BLOCK_BITS-1:0]             z_block,
    output logic [   KEY_LANES-1:0][23:0]       z
);
  // The spikes of an element: bit 16 * head + phase.
  typedef logic [GROUP-1:0][15:0] element_spikes_t;

  element_spikes_t fired_q[HEAD_DIM], negative_q[HEAD_DIM];
  logic [HEAD_DIM-1:0] occupied_q;
  logic [GROUP-1:0][SPIKE_BITS-1:0] head_spikes_q, left_q;
  logic [SPIKE_BITS-1:0] all_left_q;

  // next spike
  logic active_q, fresh_q;
  logic [INDEX_BITS-1:0] element_q, following;
  element_spikes_t bits_q, signs_q, chosen, rest;
  logic [HEAD_DIM-1:0] beyond, candidates, lowest;
  logic [HEAD_BITS-1:0] head;
  logic [3:0] phase;
  logic last_in_block, last_of_head;
  logic [BLOCK_BITS-1:0] block_q;
  logic [KEY_ADDRESS_BITS-1:0] block_address_q;

  // spike being added
  logic add_valid_q, add_negative_q, add_first_q, add_last_q, add_opens_q, add_final_q;
  logic [HEAD_BITS-1:0] add_head_q;
  logic [3:0] add_shift_q;
  logic [BLOCK_BITS-1:0] add_block_q;
  logic signed [31:0] score_q[GROUP][KEY_LANES];

  // scores being scaled
  logic z_final_q;
  logic signed [8:0] head_places_q;

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

  // next spike: the lowest one left of the element; the next element with one, after the last the first
  assign beyond = active_q ? occupied_q & ~((HEAD_DIM'(2) << element_q) - HEAD_DIM'(1)) : '0;
  assign candidates = beyond != '0 ? beyond : occupied_q;
  assign lowest = candidates & -candidates;
  assign chosen = bits_q & -bits_q;
  assign rest = bits_q ^ chosen;
  assign last_in_block = all_left_q == SPIKE_BITS'(1);
  assign last_of_head = left_q[head] == SPIKE_BITS'(1);
  assign working = active_q;
  assign in_last_block = block_q == last_block;
  assign key_enable = active_q && fresh_q;
  assign key_address = block_address_q + KEY_ADDRESS_BITS'(element_q);
  assign key_skew = KEY_LANE_BITS'(element_q);

  always_comb begin
    following = '0;
    for (int unsigned i = 0; i < HEAD_DIM; ++i) if (lowest[i]) following |= INDEX_BITS'(i);
    head = '0;
    for (int unsigned g = 0; g < GROUP; ++g) if (chosen[g] != '0) head |= HEAD_BITS'(g);
    phase = '0;
    for (int unsigned t = 0; t < PHASES; ++t) if (chosen[head][t]) phase |= 4'(t);
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
    if (start || (active_q && last_in_block)) begin
      left_q <= head_spikes_q;
      all_left_q <= spikes;
    end else if (active_q) begin
      left_q[head] <= left_q[head] - SPIKE_BITS'(1);
      all_left_q <= all_left_q - SPIKE_BITS'(1);
    end
    if (active_q && last_in_block) begin
      block_q <= block_q + BLOCK_BITS'(1);
      block_address_q <= block_address_q + KEY_ADDRESS_BITS'(head_dim);
      if (in_last_block) active_q <= 1'b0;
    end
    add_valid_q <= active_q;
    if (active_q) begin
      add_negative_q <= (chosen & signs_q) != '0;
      add_first_q <= left_q[head] == head_spikes_q[head];
      add_last_q <= last_of_head;
      add_opens_q <= all_left_q == spikes;
      add_final_q <= last_in_block && in_last_block;
      add_head_q <= head;
      add_shift_q <= phases[head] - 4'd1 - phase;
      add_block_q <= block_q;
    end
    if (rst) {active_q, add_valid_q} <= '0;
  end

  // Exponents are read a cycle after the block's first key element: the block before may still need its own.
  assign exponent_enable = add_valid_q && add_opens_q;
  assign exponent_block = block_base + add_block_q;

  always_ff @(posedge clk) begin
    if (add_valid_q) begin
      for (int unsigned a = 0; a < KEY_LANES; ++a) begin
        automatic logic signed [31:0] step = 32'(signed'(keys[a])) <<< add_shift_q;
        automatic logic signed [31:0] old = add_first_q ? '0 : score_q[add_head_q][a];
        score_q[add_head_q][a] <= add_negative_q ? old - step : old + step;
      end
      z_head <= add_head_q;
      z_block <= add_block_q;
      head_places_q <= 9'(places) - 9'(signed'({1'b0, exponent[add_head_q]}));
    end
    z_valid <= add_valid_q && add_last_q;
    z_final_q <= add_valid_q && add_final_q;
    if (rst) {z_valid, z_final_q} <= '0;
  end

  // The shifters stand still while scores are being formed.
  always_comb begin
    for (int unsigned a = 0; a < KEY_LANES; ++a)
      z[a] = scaled(z_valid ? score_q[z_head][a] : '0, head_places_q - 9'(signed'({1'b0, key_exponents[a]})));
  end

  assign done = z_final_q || (start && occupied_q == '0);

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> !active_q && !add_valid_q)
  else $error("start_when_idle: scores are being formed");
  spikes_left : assert property (@(posedge clk) disable iff (rst) active_q |-> bits_q != '0 && left_q[head] != '0)
  else $error("spikes_left: no spike to add");
  one_block_order : assert property (@(posedge clk) disable iff (rst) active_q && last_in_block |-> rest == '0 && last_of_head)
  else $error("one_block_order: the last spike of a block is not the last of its element");
`endif
endmodule

`default_nettype wire
