// Spike encoder: a vector of the vector memory to the flits of a spike train (numerics.md, the codes; timing.md, `encode`).
//
// Command: `start` with `size` (N <= MAX_INPUTS), the first words of the vector and of its stop prices, and the route of the site. The maximum takes
// P(N) + LATENCY cycles, of which 4 are needed beyond P(N); with MAXIMUM_WRITTEN `maximum` comes with `start`, and takes LATENCY. Digits and injections are those of the encoder that the chip has: `phase`
// (nmllm_phase_encoder, which destroys the vector) or, with ELEMENT, `element` (nmllm_element_encoder, of PHASES stages); where membranes decay (STEPS)
// nmllm_level_encoder, for its own code and stamped trains. Injection sends
// EVENTS events per flit in ascending order, one flit per cycle as `spike_ready` allows. `done` is high in the cycle of the last push, so it follows
// `spike_ready` within the cycle. `hold` delays the first scan of encoder `phase`, the first injection of encoder `element`: these begin in
// no cycle after one in which it is high.
//
// Register map (cfg_address): 0 code (0 signed-digit, 1 rate, 2 first-spike, 3 bit-planes; not where membranes decay); 1 phases at most, T (1..256; 1..14 but for rate).
// k_min must fit the 5 bits of the tag; only T = 1 with an element of -2^31 does not (asserted).
// Counters: elements compared for the maximum, elements coded (encode_elements), words of 32 bits read and written in the vector memory
// (stop prices included), bits of the event banks (read as many as written), spikes, flits.
`default_nettype none

module nmllm_encoder
  import nmllm_pkg::*;
#(
    parameter int unsigned LANES = VECTOR_LANES,
    parameter int unsigned LATENCY = VECTOR_LATENCY,
    parameter int unsigned EVENTS = EVENTS_PER_FLIT,
    parameter int unsigned MAX_INPUTS = TILE_INPUTS,
    parameter int unsigned ADDRESS_BITS = $clog2(VECTOR_MEMORY_BYTES / 4 / LANES),
    parameter bit ELEMENT = ELEMENT_ENCODER != 0,
    parameter bit ASCENDING = LEAST_FIRST != 0,
    parameter int unsigned PHASES = MAX_PHASES
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
    input  logic                  [ROUTE_BITS-1:0] route,
    input  logic                                             hold,
    input  logic                  [                    31:0] maximum,
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
    output flit_t                                 spike_flit,
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
  localparam int unsigned WORD_BITS = $clog2(WORDS + 1);

  code_t code_q;
  logic [8:0] limit_q;  // T

  // command
  logic busy_q;
  logic [14:0] size_q;
  logic [ADDRESS_BITS-1:0] vector_base_q, stop_base_q;
  logic [ROUTE_BITS-1:0] route_q;

  // range of the phases
  logic [WORD_BITS-1:0] words;
  logic [LANE_BITS:0] tail;
  logic known, ready;
  logic [5:0] k_first, k_min, k_min_q;
  // verilator lint_off UNUSEDSIGNAL
  logic [8:0] phases;  // one of a stamped train
  // verilator lint_on UNUSEDSIGNAL

  // memories
  logic maximum_read, coding_read;
  logic [WORD_BITS-1:0] maximum_word, coding_word, write_word;

  // flits
  logic last_flit, last_phase, sent;
  logic [63:0] payload;
  logic [2:0] count;  // of the events of a flit

  always_ff @(posedge clk) begin
    if (cfg_valid) begin
      if (cfg_address) limit_q <= cfg_data[8:0];
      else code_q <= code_t'(cfg_data[$bits(code_t)-1:0]);
    end
    if (start) begin
      size_q <= size;
      vector_base_q <= vector_base;
      stop_base_q <= stop_base;
      route_q <= route;
    end
    if (known) k_min_q <= k_min;
    busy_q <= start || (busy_q && !done);
    if (rst) busy_q <= 1'b0;
  end

  nmllm_encoder_range #(
      .LANES  (LANES),
      .LATENCY(LATENCY),
      .WORDS  (WORDS)
  ) u_range (
      .clk,
      .rst,
      .start,
      .size,
      .code(code_q),
      .limit(limit_q),
      .hold(hold && !ELEMENT && STEPS == 0),
      .written(maximum),
      .read_enable(maximum_read),
      .read_word(maximum_word),
      .read_data,
      .words,
      .tail,
      .known,
      .k_first,
      .k_min,
      .phases,
      .ready
  );

  if (STEPS != 0) begin : g_level
    nmllm_level_encoder #(
        .LANES (LANES),
        .EVENTS(EVENTS),
        .WORDS (WORDS)
    ) coder (
        .clk,
        .rst,
        .words,
        .tail,
        .known,
        .k(k_first),
        .ready,
        .hold,
        .read_enable(coding_read),
        .read_word(coding_word),
        .read_data,
        .stop_data,
        .spike_valid,
        .spike_ready,
        .payload,
        .count(count[1:0]),
        .last_flit,
        .done
    );
    assign count[2] = 1'b0;
    assign last_phase = 1'b1;
    assign sent = done;
    assign stop_enable = coding_read;
    assign write_enable = 1'b0;
    assign write_word = '0;
    assign write_data = '0;
  end else if (ELEMENT) begin : g_element
    logic [EVENTS-1:0][15:0] chosen;
    assign payload = 64'(chosen);
    assign count = events_of(chosen);
    nmllm_element_encoder #(
        .LANES(LANES),
        .EVENTS(EVENTS),
        .WORDS(WORDS),
        .PHASES(PHASES),
        .ASCENDING(ASCENDING)
    ) coder (
        .clk,
        .rst,
        .code(code_q),
        .limit(limit_q),
        .words,
        .tail,
        .known,
        .k_first,
        .phases,
        .ready,
        .hold,
        .read_enable(coding_read),
        .read_word(coding_word),
        .read_data,
        .stop_data,
        .spike_valid,
        .spike_ready,
        .chosen,
        .last_flit,
        .last_phase,
        .sent,
        .done
    );
    assign stop_enable = coding_read;
    assign write_enable = 1'b0;
    assign write_word = '0;
    assign write_data = '0;
  end else begin : g_phase
    logic [EVENTS-1:0][15:0] chosen;
    assign payload = 64'(chosen);
    assign count = events_of(chosen);
    nmllm_phase_encoder #(
        .LANES (LANES),
        .EVENTS(EVENTS),
        .WORDS (WORDS)
    ) coder (
        .clk,
        .rst,
        .code(code_q),
        .limit(limit_q),
        .words,
        .tail,
        .known,
        .k_first,
        .phases,
        .ready,
        .read_enable(coding_read),
        .stop_enable,
        .read_word(coding_word),
        .read_data,
        .stop_data,
        .write_enable,
        .write_word,
        .write_data,
        .spike_valid,
        .spike_ready,
        .chosen,
        .last_flit,
        .last_phase,
        .sent,
        .done
    );
  end

  assign read_enable = maximum_read || coding_read;
  assign read_address = vector_base_q + ADDRESS_BITS'(maximum_read ? maximum_word : coding_word);
  assign stop_address = stop_base_q + ADDRESS_BITS'(coding_word);
  assign write_address = vector_base_q + ADDRESS_BITS'(write_word);

  assign spike_flit = '{
          route: route_q,
          flag: last_flit,
          tag: {8'd0, STEPS != 0 ? count[1:0] : 2'd0, last_phase, k_min_q[4:0]},
          payload: payload
      };

  // counters
  function automatic logic [47:0] lanes_of(input logic [WORD_BITS-1:0] word);
    lanes_of = word + WORD_BITS'(1) == words ? 48'(tail) : 48'(LANES);
  endfunction

  function automatic logic [2:0] events_of(input logic [EVENTS-1:0][15:0] events);
    events_of = '0;
    for (int unsigned j = 0; j < EVENTS; ++j) events_of += 3'(events[j][15]);
  endfunction

  assign count_bank_bits = STEPS != 0 ? 48'(2 + STAMP_BITS) * count_encode_elements : {count_encode_elements[46:0], 1'b0};

  always_ff @(posedge clk) begin
    if (start) count_maximum_elements <= count_maximum_elements + 48'(size);
    if (maximum_read) count_words_read <= count_words_read + lanes_of(maximum_word);
    if (coding_read) count_words_read <= count_words_read + (lanes_of(coding_word) << stop_enable);
    if (write_enable) count_words_written <= count_words_written + lanes_of(write_word);
    if (spike_valid && spike_ready) begin
      count_flits <= count_flits + 48'd1;
      count_spikes <= count_spikes + 48'(count);
    end
    if (sent) count_encode_elements <= count_encode_elements + 48'(size_q);
    if (rst) begin
      {count_maximum_elements, count_encode_elements, count_words_read, count_words_written} <= '0;
      {count_spikes, count_flits} <= '0;
    end
  end

  if (LANES != 1 << LANE_BITS || LANES < 2) begin : g_lanes
    $error("VECTOR_LANES must be a power of two, at least 2");
  end
`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> !busy_q && size != '0 && 32'(size) <= MAX_INPUTS)
  else $error("start_when_idle: a vector is being encoded, or its size %0d is not in 1..%0d", size, MAX_INPUTS);
  k_min_fits : assert property (@(posedge clk) disable iff (rst) ready |=> !k_min_q[5])
  else $error("k_min_fits: k_min is %0d, the tag holds 5 bits", k_min_q);
  spike_stable : assert property (@(posedge clk) disable iff (rst) spike_valid && !spike_ready |=> spike_valid && $stable(spike_flit))
  else $error("spike_stable: a flit changed before it was accepted");
`endif
endmodule

`default_nettype wire
