// Encoder `phase`: a scan of the vector for every phase, most significant first (timing.md, `encode`).
//
// `known` brings the range of the phases, with `ready` the first word is read, and the scans follow: a word of remainders is read, gives its digits and is
// written back, and its spikes go to an event bank, while the other bank is sent. A scan waits for the injection before the last.
// `done`: the last flit of the train is pushed in this cycle. Longest path: a word of remainders through the comparison of its code to the event bank.
`default_nettype none

module nmllm_phase_encoder
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
    input  code_t                            code,
    input  logic [          8:0]             limit,  // T
    input  logic [WORD_BITS-1:0]             words,
    input  logic [  LANE_BITS:0]             tail,
    input  logic                             known,
    input  logic [          5:0]             k_first,
    input  logic [          8:0]             phases,
    input  logic                             ready,
    // vector memory
    output logic                             read_enable,
    output logic                             stop_enable,
    output logic [WORD_BITS-1:0]             read_word,
    input  logic [    LANES-1:0][31:0]       read_data,
    input  logic [    LANES-1:0][31:0]       stop_data,
    output logic                             write_enable,
    output logic [WORD_BITS-1:0]             write_word,
    output logic [    LANES-1:0][31:0]       write_data,
    // flits
    output logic                             spike_valid,
    input  logic                             spike_ready,
    output logic [   EVENTS-1:0][15:0]       chosen,
    output logic                             last_flit,
    output logic                             last_phase,
    output logic                             sent,
    output logic                             done
);
  localparam int unsigned ENTRY_BITS = WORD_BITS + 2 * LANES;

  // scan: the word whose data are there
  logic scanning_q, advance, last_word, first_q, forward_q;
  logic [WORD_BITS-1:0] word_q, next_word;
  logic [5:0] k_q;
  logic [8:0] left_q;  // phases from this one on
  logic [LANES-1:0][31:0] forward_data_q;
  logic [LANES-1:0] lane_valid, fires, negative;

  // event banks
  logic scan_bank_q, send_bank_q, next_bank;
  logic [1:0] full_q, last_q;
  logic [1:0][WORD_BITS-1:0] entries;
  logic [1:0][EVENTS-1:0][ENTRY_BITS-1:0] slot;
  logic [WORD_BITS-1:0] head_next;

  assign advance = scanning_q && !full_q[scan_bank_q];
  assign last_word = word_q + WORD_BITS'(1) == words;
  assign next_word = last_word ? '0 : word_q + WORD_BITS'(1);
  always_comb for (int unsigned i = 0; i < LANES; ++i) lane_valid[i] = !last_word || (LANE_BITS + 1)'(i) < tail;

  assign read_enable = ready || (advance && !(last_word && left_q == 9'd1));
  assign stop_enable = ready || (read_enable && (code == SIGNED_DIGIT || (first_q && !last_word)));
  assign read_word = ready ? '0 : next_word;
  assign write_enable = advance;
  assign write_word = word_q;

  nmllm_encoder_digits #(
      .LANES(LANES)
  ) digits (
      .enable(advance),
      .code,
      .limit,
      .first(first_q),
      .left(left_q),
      .k(k_q),
      .lane_valid,
      .value(forward_q ? forward_data_q : read_data),
      .price(stop_data),
      .fires,
      .negative,
      .rest(write_data)
  );

  always_ff @(posedge clk) begin
    if (known) begin
      k_q <= k_first;
      left_q <= phases;
    end
    if (ready) begin
      {scanning_q, first_q} <= '1;
      forward_q <= 1'b0;
      word_q <= '0;
    end
    if (advance) begin
      word_q <= next_word;
      // With a single word the next phase reads it in the cycle in which it is written.
      forward_q <= words == WORD_BITS'(1);
      if (words == WORD_BITS'(1)) forward_data_q <= write_data;
      if (last_word) begin
        first_q <= 1'b0;
        left_q <= left_q - 9'd1;
        if (code == SIGNED_DIGIT || code == FIRST_SPIKE) k_q <= k_q - 6'd1;
        if (left_q == 9'd1) scanning_q <= 1'b0;
      end
    end
    if (rst) scanning_q <= 1'b0;
  end

  // Banks: one is scanned while the other is sent.
  assign next_bank = send_bank_q ^ sent;
  assign last_phase = last_q[send_bank_q];
  assign done = sent && last_phase;

  for (genvar b = 0; b < 2; ++b) begin : g_bank
    nmllm_event_bank #(
        .LANES  (LANES),
        .EVENTS (EVENTS),
        .WORDS  (WORDS),
        .FORWARD(1'b1)
    ) bank (
        .clk,
        .rst,
        .clear(sent && send_bank_q == 1'(b)),
        .write(advance && scan_bank_q == 1'(b) && |fires),
        .entry({word_q, negative, fires}),
        .entries(entries[b]),
        .read_enable((scanning_q || spike_valid) && next_bank == 1'(b)),
        .head(head_next),
        .slot(slot[b])
    );
  end

  nmllm_event_flits #(
      .LANES (LANES),
      .EVENTS(EVENTS),
      .WORDS (WORDS)
  ) flits (
      .clk,
      .rst,
      .complete(full_q[send_bank_q]),
      .entries(entries[send_bank_q]),
      .slot(slot[send_bank_q]),
      .head_next,
      .spike_valid,
      .spike_ready,
      .chosen,
      .last_flit,
      .sent
  );

  always_ff @(posedge clk) begin
    if (advance && last_word) begin
      full_q[scan_bank_q] <= 1'b1;
      last_q[scan_bank_q] <= left_q == 9'd1;
      scan_bank_q <= !scan_bank_q;
    end
    if (sent) full_q[send_bank_q] <= 1'b0;
    send_bank_q <= next_bank;
    if (rst) {full_q, scan_bank_q, send_bank_q} <= '0;
  end
endmodule

`default_nettype wire
