// Spike encoder: a vector of the vector memory to the flits of a spike train (numerics.md, the codes; timing.md, `encode`).
//
// Command: `start` with `size` (N <= MAX_INPUTS), the first words of the vector and of its stop prices, and the route of the site. The maximum takes
// P(N) + LATENCY cycles, of which 4 are needed beyond P(N). Then every phase is scanned in P(N) cycles: a word of remainders is read, gives its
// digits and is written back, and its spikes go to an event bank (nmllm_encoder_banks). Injection sends the other bank,
// EVENTS events per flit in ascending order, one flit per cycle as `spike_ready` allows. A scan waits for the injection before the last.
// `done` is high in the cycle of the last push, so it follows `spike_ready` within the cycle. The vector is destroyed.
// `hold` delays the first scan: it begins in no cycle after one in which `hold` is high.
//
// Longest path of a cycle: a word of remainders through the comparison of its code to the event bank.
//
// State in the vector memory between the phases of other codes than signed-digit: rate {sign, 6'b0, |a|, 7'b0, running share}, first-spike x or 0
// once it has fired, bit-planes a.
//
// Register map (cfg_address): 0 code (0 signed-digit, 1 rate, 2 first-spike, 3 bit-planes); 1 phases at most, T (1..256; 1..14 but for rate).
// k_min must fit the 5 bits of the tag; only T = 1 with an element of -2^31 does not (asserted).
// Counters: elements compared for the maximum, elements scanned (encode_elements), words of 32 bits read and written in the vector memory
// (stop prices included), bits of the event banks (read as many as written), spikes, flits.
`default_nettype none

module nmllm_encoder #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned LATENCY = nmllm_pkg::VECTOR_LATENCY,
    parameter int unsigned EVENTS = nmllm_pkg::EVENTS_PER_FLIT,
    parameter int unsigned MAX_INPUTS = nmllm_pkg::TILE_INPUTS,
    parameter int unsigned ADDRESS_BITS = $clog2(nmllm_pkg::VECTOR_MEMORY_BYTES / 4 / LANES)
) (
    input  logic                                             clk,
    input  logic                                             rst,
    input  logic                                             cfg_valid,
    input  logic                                             cfg_address,
    // Registers are narrower than the bus.
    // verilator lint_off UNUSEDSIGNAL
    input  logic                  [                    63:0] cfg_data,
    // verilator lint_on UNUSEDSIGNAL
    // command
    input  logic                                             start,
    input  logic                  [                    14:0] size,
    input  logic                  [        ADDRESS_BITS-1:0] vector_base,
    input  logic                  [        ADDRESS_BITS-1:0] stop_base,
    input  logic                  [nmllm_pkg::ROUTE_BITS-1:0] route,
    input  logic                                             hold,
    output logic                                             done,
    // vector memory
    output logic                                             read_enable,
    output logic                  [        ADDRESS_BITS-1:0] read_address,
    input  logic       [LANES-1:0][                    31:0] read_data,
    output logic                                             stop_enable,
    output logic                  [        ADDRESS_BITS-1:0] stop_address,
    input  logic       [LANES-1:0][                    31:0] stop_data,
    output logic                                             write_enable,
    output logic                  [        ADDRESS_BITS-1:0] write_address,
    output logic       [LANES-1:0][                    31:0] write_data,
    // to the router
    output logic                                             spike_valid,
    input  logic                                             spike_ready,
    output nmllm_pkg::flit_t                                 spike_flit,
    // counters
    output logic                  [                    47:0] count_maximum_elements,
    output logic                  [                    47:0] count_encode_elements,
    output logic                  [                    47:0] count_words_read,
    output logic                  [                    47:0] count_words_written,
    output logic                  [                    47:0] count_bank_bits,
    output logic                  [                    47:0] count_spikes,
    output logic                  [                    47:0] count_flits
);
  /* verilator no_inline_module */  // one C++ function for all instances
  localparam int unsigned LANE_BITS = $clog2(LANES);
  localparam int unsigned WORDS = (MAX_INPUTS + LANES - 1) / LANES;
  localparam int unsigned WORD_BITS = $clog2(WORDS + 1);  // counts of words and entries
  localparam int unsigned TIMER_BITS = WORD_BITS + $clog2(LATENCY) + 1;

  typedef enum logic [1:0] {SIGNED_DIGIT, RATE, FIRST_SPIKE, BIT_PLANES} code_t;
  typedef enum logic [1:0] {IDLE, MAXIMUM, SCAN, FLUSH} state_t;

  state_t state_q;
  code_t code_q;
  logic [8:0] limit_q;  // T

  // command
  logic [WORD_BITS-1:0] words_q;
  logic [LANE_BITS:0] tail_q;
  logic [ADDRESS_BITS-1:0] vector_base_q, stop_base_q;
  logic [nmllm_pkg::ROUTE_BITS-1:0] route_q;

  // maximum pass
  logic [TIMER_BITS-1:0] timer_q;  // cycles left before the first scan
  logic [WORD_BITS-1:0] issued_q;
  logic issue, s1_valid_q, s1_last_q, s2_last_q, s3_last_q;
  logic [31:0] lane_maximum_q[LANES];
  logic [31:0] maximum_q;

  // range of the phases
  logic [5:0] k_top, k_min, k_min_q, k_q;
  logic [8:0] phases, phases_left_q;

  // scan: the word whose data are there
  logic scan_follows;  // the first one
  logic advance, last_word, first_phase_q, forward_q;
  logic [WORD_BITS-1:0] word_q, next_word;
  logic [31:0] forward_data_q[LANES];
  logic [LANES-1:0] lane_valid, fires, negative;
  logic [LANE_BITS:0] lanes, spikes;

  // event banks
  logic free, last_flit, last_phase;
  logic [EVENTS-1:0][15:0] chosen;

  function automatic logic [5:0] bit_length(input logic [32:0] value);
    bit_length = '0;
    for (int unsigned i = 0; i < 33; ++i) if (value[i]) bit_length = 6'(i + 1);
  endfunction

  function automatic logic [31:0] magnitude(input logic [31:0] value);
    magnitude = value[31] ? -value : value;
  endfunction

  function automatic logic signed [31:0] rounding_shift(input logic signed [31:0] value, input logic [5:0] places);
    rounding_shift = 32'((33'(value) + signed'((33'd1 << places) >> 1)) >>> places);
  endfunction

  // Maximum: magnitudes lane by lane, then over the lanes, then the range of the phases.
  assign issue = state_q == MAXIMUM && issued_q != words_q;

  always_ff @(posedge clk) begin
    s1_valid_q <= issue;
    s1_last_q <= issue && issued_q + WORD_BITS'(1) == words_q;
    s2_last_q <= s1_last_q;
    s3_last_q <= s2_last_q;
    if (start) begin
      for (int unsigned i = 0; i < LANES; ++i) lane_maximum_q[i] <= '0;
    end else if (s1_valid_q) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        automatic logic [31:0] size_here = magnitude(read_data[i]);
        if ((!s1_last_q || (LANE_BITS + 1)'(i) < tail_q) && size_here > lane_maximum_q[i]) lane_maximum_q[i] <= size_here;
      end
    end
    if (s2_last_q) begin
      automatic logic [31:0] largest = '0;
      for (int unsigned i = 0; i < LANES; ++i) if (lane_maximum_q[i] > largest) largest = lane_maximum_q[i];
      maximum_q <= largest;
    end
    if (rst) {s1_valid_q, s1_last_q, s2_last_q, s3_last_q} <= '0;
  end

  always_comb begin
    automatic logic [8:0] numerator = code_q == RATE ? limit_q : 9'd3;  // smallest k with numerator * 2^k >= bound
    automatic logic [32:0] bound = code_q == RATE ? {1'b0, maximum_q} : {maximum_q, 1'b0};
    automatic logic [5:0] length = bit_length({1'b0, maximum_q});
    automatic logic [5:0] bound_length = bit_length(bound);
    automatic logic [5:0] numerator_length = bit_length({24'd0, numerator});
    automatic logic [5:0] least = bound_length > numerator_length ? bound_length - numerator_length : '0;
    automatic logic [41:0] reached = 42'(numerator) << least;
    automatic logic [5:0] covering = reached >= 42'(bound) ? least : least + 6'd1;
    unique case (code_q)
      RATE: k_top = covering;
      FIRST_SPIKE: k_top = length;
      BIT_PLANES: k_top = length;
      default: k_top = covering;
    endcase
    if (code_q == RATE) k_min = covering;
    else if (9'(k_top) + 9'd1 > limit_q) k_min = 6'(9'(k_top) + 9'd1 - limit_q);
    else k_min = '0;
    if (maximum_q == '0) phases = 9'd1;
    else if (code_q == RATE || code_q == BIT_PLANES) phases = limit_q;
    else phases = 9'(k_top) - 9'(k_min) + 9'd1;
  end

  // Scan
  assign scan_follows = state_q == MAXIMUM && timer_q == TIMER_BITS'(1) && !hold;
  assign advance = state_q == SCAN && free;
  assign last_word = word_q + WORD_BITS'(1) == words_q;
  assign next_word = last_word ? '0 : word_q + WORD_BITS'(1);
  assign lanes = last_word ? tail_q : (LANE_BITS + 1)'(LANES);
  always_comb for (int unsigned i = 0; i < LANES; ++i) lane_valid[i] = (LANE_BITS + 1)'(i) < lanes;

  always_comb begin
    read_enable = issue;
    read_address = vector_base_q + ADDRESS_BITS'(issued_q);
    stop_enable = 1'b0;
    stop_address = stop_base_q;
    if (scan_follows) begin  // the first word of the first scan
      read_enable = 1'b1;
      read_address = vector_base_q;
      stop_enable = 1'b1;
    end else if (advance) begin
      read_enable = !(last_word && phases_left_q == 9'd1);
      read_address = vector_base_q + ADDRESS_BITS'(next_word);
      stop_enable = read_enable && (code_q == SIGNED_DIGIT || (first_phase_q && !last_word));
      stop_address = stop_base_q + ADDRESS_BITS'(next_word);
    end
  end

  assign write_enable  = advance;
  assign write_address = vector_base_q + ADDRESS_BITS'(word_q);

  always_comb begin
    fires = '0;
    negative = '0;
    write_data = '0;
    if (advance) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        automatic logic [31:0] value = forward_q ? forward_data_q[i] : read_data[i];
        automatic logic [31:0] size_here = magnitude(value);
        automatic logic [35:0] weight = 36'd1 << k_q;
        automatic logic [35:0] reach = 36'd3 << k_q;
        automatic logic fire = 1'b0;
        automatic logic minus = value[31];
        automatic logic [31:0] rest = value;
        automatic logic dead = first_phase_q && size_here[31:16] == '0 && 32'(size_here[15:0]) * 32'(size_here[15:0]) <= stop_data[i];
        unique case (code_q)
          RATE: begin
            automatic logic [31:0] code = rounding_shift(value, k_q);
            automatic logic [31:0] code_size = magnitude(code);
            automatic logic [8:0] level = first_phase_q ? (code_size > 32'(limit_q) ? limit_q : code_size[8:0]) : value[24:16];
            automatic logic [9:0] share = first_phase_q ? 10'(level) : 10'(level) + 10'(value[8:0]);
            if (dead) begin
              level = '0;
              share = '0;
            end
            fire = share >= 10'(limit_q);
            if (fire) share = share - 10'(limit_q);
            rest = {minus, 6'd0, level, 7'd0, share[8:0]};
          end
          FIRST_SPIKE: begin
            fire = !dead && 36'({size_here, 2'b00}) >= reach && 36'({size_here, 1'b0}) < reach;
            if (fire || dead) rest = '0;
          end
          BIT_PLANES: begin
            if (first_phase_q) begin
              automatic logic signed [31:0] code = rounding_shift(value, k_q);
              automatic logic signed [31:0] top = signed'((32'd1 << (limit_q - 9'd1)) - 32'd1);
              rest = dead ? '0 : code > top ? top : code < ~top ? ~top : code;
              fire = rest[31];
              minus = 1'b1;
            end else begin
              fire = value[5'(phases_left_q-9'd1)];
              minus = 1'b0;
            end
          end
          default: begin
            fire = 36'({size_here, 2'b00}) >= reach && 36'({size_here, 1'b0}) > weight + 36'(stop_data[i] >> k_q);
            if (fire) rest = minus ? value + weight[31:0] : value - weight[31:0];
          end
        endcase
        fires[i] = fire && lane_valid[i];
        negative[i] = fire && lane_valid[i] && minus;
        write_data[i] = lane_valid[i] ? rest : value;
      end
    end
  end

  always_comb begin
    spikes = '0;
    for (int unsigned i = 0; i < LANES; ++i) spikes += (LANE_BITS + 1)'(fires[i]);
  end

  always_ff @(posedge clk) begin
    if (cfg_valid) begin
      if (cfg_address) limit_q <= cfg_data[8:0];
      else code_q <= code_t'(cfg_data[1:0]);
    end
    if (timer_q > TIMER_BITS'(1) || scan_follows) timer_q <= timer_q - TIMER_BITS'(1);
    if (issue) issued_q <= issued_q + WORD_BITS'(1);
    unique case (state_q)
      IDLE: ;
      MAXIMUM: begin
        if (s3_last_q) begin
          k_min_q <= k_min;
          k_q <= code_q == BIT_PLANES ? k_min : k_top;
          phases_left_q <= phases;
        end
        if (scan_follows) state_q <= SCAN;
        word_q <= '0;
        first_phase_q <= 1'b1;
        forward_q <= 1'b0;
      end
      SCAN:
      if (advance) begin
        word_q <= next_word;
        // With a single word the next phase reads it in the cycle in which it is written.
        forward_q <= words_q == WORD_BITS'(1);
        if (words_q == WORD_BITS'(1)) for (int unsigned i = 0; i < LANES; ++i) forward_data_q[i] <= write_data[i];
        if (last_word) begin
          first_phase_q <= 1'b0;
          phases_left_q <= phases_left_q - 9'd1;
          if (code_q == SIGNED_DIGIT || code_q == FIRST_SPIKE) k_q <= k_q - 6'd1;
          if (phases_left_q == 9'd1) state_q <= FLUSH;
        end
      end
      default: if (done) state_q <= IDLE;
    endcase
    if (start) begin
      state_q <= MAXIMUM;
      words_q <= WORD_BITS'((32'(size) + LANES - 1) >> LANE_BITS);
      tail_q <= size[LANE_BITS-1:0] == '0 ? (LANE_BITS + 1)'(LANES) : {1'b0, size[LANE_BITS-1:0]};
      timer_q <= TIMER_BITS'((32'(size) + LANES - 1) >> LANE_BITS) + TIMER_BITS'(LATENCY - 1);
      issued_q <= '0;
      vector_base_q <= vector_base;
      stop_base_q <= stop_base;
      route_q <= route;
    end
    if (rst) begin
      state_q <= IDLE;
      timer_q <= '0;
    end
  end

  nmllm_encoder_banks #(
      .LANES (LANES),
      .EVENTS(EVENTS),
      .WORDS (WORDS)
  ) u_banks (
      .clk,
      .rst,
      .enable(state_q == SCAN || state_q == FLUSH),
      .free,
      .advance,
      .last_word,
      .scan_last_phase(phases_left_q == 9'd1),
      .word(word_q),
      .fires,
      .negative,
      .spikes,
      .spike_valid,
      .spike_ready,
      .chosen,
      .last_flit,
      .last_phase,
      .done
  );

  assign spike_flit = '{
          route: route_q,
          flag: last_flit,
          tag: {10'd0, last_phase, k_min_q[4:0]},
          payload: 64'(chosen)
      };

  always_ff @(posedge clk) begin
    if (start) begin
      count_maximum_elements <= count_maximum_elements + 48'(size);
      count_words_read <= count_words_read + 48'(size);
    end
    if (advance) begin
      count_encode_elements <= count_encode_elements + 48'(lanes);
      count_words_read <= count_words_read + (code_q == SIGNED_DIGIT || first_phase_q ? {47'(lanes), 1'b0} : 48'(lanes));
      count_words_written <= count_words_written + 48'(lanes);
      count_bank_bits <= count_bank_bits + {47'(lanes), 1'b0};
      count_spikes <= count_spikes + 48'(spikes);
    end
    if (spike_valid && spike_ready) count_flits <= count_flits + 48'd1;
    if (rst) begin
      {count_maximum_elements, count_encode_elements, count_words_read, count_words_written} <= '0;
      {count_bank_bits, count_spikes, count_flits} <= '0;
    end
  end

  if (LATENCY < 4) begin : g_latency
    $error("VECTOR_LATENCY must be at least 4 for the encoder");
  end
  if (LANES != 1 << LANE_BITS || LANES < 2) begin : g_lanes
    $error("VECTOR_LANES must be a power of two, at least 2");
  end
`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> state_q == IDLE && size != '0 && 32'(size) <= MAX_INPUTS)
  else $error("start_when_idle: a vector is being encoded, or its size %0d is not in 1..%0d", size, MAX_INPUTS);
  k_min_fits : assert property (@(posedge clk) disable iff (rst) state_q == SCAN |-> !k_min_q[5])
  else $error("k_min_fits: k_min is %0d, the tag holds 5 bits", k_min_q);
  spike_stable : assert property (@(posedge clk) disable iff (rst) spike_valid && !spike_ready |=> spike_valid && $stable(spike_flit))
  else $error("spike_stable: a flit changed before it was accepted");
`endif
endmodule

`default_nettype wire
