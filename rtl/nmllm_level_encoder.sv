// Encoder of stamped trains: every element once through one stage, which finds its slot, into one event bank (timing.md, Stamped trains).
//
// As nmllm_element_encoder with one stage: `known` brings k, with `ready` the first word is read, and the pass of P(N) + 1 cycles begins. Then the bank
// is sent, not before `hold` is low in the cycle before. `done`: the last flit of the train is pushed in this cycle.
`default_nettype none

module nmllm_level_encoder
  import nmllm_pkg::*;
#(
    parameter int unsigned LANES = VECTOR_LANES,
    parameter int unsigned EVENTS = EVENTS_PER_FLIT,
    parameter int unsigned WORDS = (TILE_INPUTS + LANES - 1) / LANES,
    localparam int unsigned LANE_BITS = $clog2(LANES),
    localparam int unsigned WORD_BITS = $clog2(WORDS + 1)
) (
    input  logic                             clk,
    input  logic                             rst,
    input  logic [WORD_BITS-1:0]             words,
    input  logic [  LANE_BITS:0]             tail,
    input  logic                             known,
    input  logic [          5:0]             k,
    input  logic                             ready,
    input  logic                             hold,
    // vector memory
    output logic                             read_enable,
    output logic [WORD_BITS-1:0]             read_word,
    input  logic [    LANES-1:0][31:0]       read_data,
    input  logic [    LANES-1:0][31:0]       stop_data,
    // flits
    output logic                             spike_valid,
    input  logic                             spike_ready,
    output logic [         63:0]             payload,
    output logic [          1:0]             count,
    output logic                             last_flit,
    output logic                             done
);
  localparam int unsigned ENTRY_BITS = WORD_BITS + (2 + STAMP_BITS) * LANES;

  logic reading_q, last_read, valid_q, last_q, ended_q, waiting_q, begins, sending_q;
  logic [WORD_BITS-1:0] next_word_q, word_q, entries, head_next;
  logic [5:0] k_q;
  logic [LANES-1:0] lane_valid, fires, negative;
  logic [LANES-1:0][STAMP_BITS-1:0] slots;
  logic [EVENTS-1:0][ENTRY_BITS-1:0] slot;

  assign read_enable = ready || reading_q;
  assign read_word = ready ? '0 : next_word_q;
  assign last_read = read_enable && read_word + WORD_BITS'(1) == words;
  assign begins = (ended_q || waiting_q) && !hold;

  always_ff @(posedge clk) begin
    if (known) k_q <= k;
    if (ready) reading_q <= 1'b1;
    if (last_read) reading_q <= 1'b0;
    next_word_q <= read_word + WORD_BITS'(1);
    word_q <= read_word;
    valid_q <= read_enable;
    last_q <= last_read;
    ended_q <= last_q;
    waiting_q <= (ended_q || waiting_q) && hold;
    if (begins) sending_q <= 1'b1;
    if (done) sending_q <= 1'b0;
    if (rst) {reading_q, valid_q, last_q, ended_q, waiting_q, sending_q} <= '0;
  end

  always_comb for (int unsigned i = 0; i < LANES; ++i) lane_valid[i] = !last_q || (LANE_BITS + 1)'(i) < tail;

  nmllm_levels #(
      .LANES(LANES)
  ) levels (
      .enable(valid_q),
      .k(k_q),
      .lane_valid,
      .value(read_data),
      .price(stop_data),
      .fires,
      .negative,
      .slots
  );

  nmllm_event_bank #(
      .EVENTS(EVENTS),
      .WORDS(WORDS),
      .ENTRY_BITS(ENTRY_BITS)
  ) bank (
      .clk,
      .rst,
      .clear(ready),
      .write(|fires),
      .entry({slots, word_q, negative, fires}),
      .entries,
      .read_enable(begins || sending_q),
      .head(head_next),
      .slot
  );

  nmllm_stamped_flits #(
      .LANES (LANES),
      .EVENTS(EVENTS),
      .WORDS (WORDS)
  ) flits (
      .clk,
      .rst,
      .complete(sending_q),
      .entries,
      .slot,
      .head_next,
      .spike_valid,
      .spike_ready,
      .payload,
      .count,
      .last_flit,
      .sent(done)
  );
endmodule

`default_nettype wire
