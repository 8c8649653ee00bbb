// Event banks of the spike encoder, and what is injected from them: EVENTS events per flit in ascending order, one flit per cycle.
//
// While `enable` is high, each word scanned (`advance`) may leave an entry {word, signs, spikes} in the bank under scan, if that is `free`; with
// `last_word` the bank is closed, and its flits are offered as soon as the other bank is empty, the first in the next cycle. Entries lie in EVENTS
// memories in turn, so that a flit takes its events from that many words. `done`: the last flit of the last phase is pushed in this cycle.
// The longest path is that from these memories through the choice of the events (EVENTS x LANES) back to their addresses.
`default_nettype none

module nmllm_encoder_banks #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned EVENTS = nmllm_pkg::EVENTS_PER_FLIT,
    parameter int unsigned WORDS = (nmllm_pkg::TILE_INPUTS + LANES - 1) / LANES,
    localparam int unsigned WORD_BITS = $clog2(WORDS + 1)
) (
    input  logic                           clk,
    input  logic                           rst,
    input  logic                           enable,
    // scan
    output logic                           free,
    input  logic                           advance,
    input  logic                           last_word,
    input  logic                           scan_last_phase,
    input  logic        [   WORD_BITS-1:0] word,
    input  logic        [       LANES-1:0] fires,
    input  logic        [       LANES-1:0] negative,
    input  logic        [ $clog2(LANES):0] spikes,
    // injection
    output logic                           spike_valid,
    input  logic                           spike_ready,
    output logic [EVENTS-1:0][       15:0] chosen,
    output logic                           last_flit,
    output logic                           last_phase,
    output logic                           done
);
  localparam int unsigned LANE_BITS = $clog2(LANES);
  localparam int unsigned EVENT_BITS = $clog2(EVENTS);
  localparam int unsigned SLOT_BITS = EVENT_BITS > 0 ? EVENT_BITS : 1;
  localparam int unsigned ROW_BITS = $clog2((WORDS + EVENTS - 1) / EVENTS + 1);
  localparam int unsigned ENTRY_BITS = WORD_BITS + 2 * LANES;

  typedef struct packed {
    logic [WORD_BITS-1:0] word;
    logic [LANES-1:0] negative;
    logic [LANES-1:0] fires;
  } entry_t;

  logic scan_bank_q, inject_bank_q, next_bank;
  logic [1:0] full_q, last_phase_q;
  logic [WORD_BITS-1:0] entries_q[2];
  logic [14:0] events_q[2];
  logic [WORD_BITS-1:0] head_q, head_next;  // first entry with events to send
  logic [LANES-1:0] taken_q, taken_next;  // of that entry, what is sent
  entry_t slot[EVENTS];  // per memory, the first entry at or after the head
  entry_t entry;
  logic push;

  assign entry = '{word: word, negative: negative, fires: fires};
  assign next_bank = inject_bank_q ^ (push && last_flit);

  for (genvar s = 0; s < EVENTS; ++s) begin : g_bank
    logic write, passed_q;
    logic [ROW_BITS-1:0] write_row, read_row;
    logic [ENTRY_BITS-1:0] stored;
    entry_t passed_entry_q;

    assign write = advance && |fires && (EVENTS == 1 || SLOT_BITS'(entries_q[scan_bank_q]) == SLOT_BITS'(s));
    assign write_row = ROW_BITS'(entries_q[scan_bank_q] >> EVENT_BITS);
    assign read_row = ROW_BITS'((32'(head_next) + 32'(EVENTS - 1 - s)) >> EVENT_BITS);

    nmllm_ram #(
        .WIDTH(ENTRY_BITS),
        .DEPTH(2 << ROW_BITS)
    ) u_ram (
        .clk,
        .write_enable(write),
        .write_address({scan_bank_q, write_row}),
        .write_data(entry),
        .read_enable(enable),
        .read_address({next_bank, read_row}),
        .read_data(stored)
    );

    // The last entry of a scan is sent in the cycle after it is written.
    always_ff @(posedge clk) begin
      passed_q <= write && scan_bank_q == next_bank && write_row == read_row;
      if (write) passed_entry_q <= entry;
      if (rst) passed_q <= 1'b0;
    end
    assign slot[s] = passed_q ? passed_entry_q : entry_t'(stored);
  end

  // Injection: the first EVENTS events from the head on
  assign free = !full_q[scan_bank_q];
  assign spike_valid = full_q[inject_bank_q];
  assign push = spike_valid && spike_ready;
  assign last_flit = events_q[inject_bank_q] <= 15'(EVENTS);
  assign last_phase = last_phase_q[inject_bank_q];
  assign done = push && last_flit && last_phase;

  logic [WORD_BITS-1:0] head_after;
  logic [LANES-1:0] taken_after;

  always_comb begin
    automatic logic [EVENT_BITS:0] found = '0;
    chosen = '0;
    head_after = head_q;
    taken_after = taken_q;
    if (spike_valid) begin
      for (int unsigned j = 0; j < EVENTS; ++j) begin
        automatic entry_t here = slot[EVENTS == 1 ? 0 : SLOT_BITS'(32'(head_q) + j)];
        automatic logic [LANES-1:0] open = here.fires & ~(j == 0 ? taken_q : '0);
        if (32'(head_q) + j < 32'(entries_q[inject_bank_q]) && found != (EVENT_BITS + 1)'(EVENTS)) begin
          taken_after = j == 0 ? taken_q : '0;
          for (int unsigned i = 0; i < LANES; ++i) begin
            if (open[i] && found != (EVENT_BITS + 1)'(EVENTS)) begin
              chosen[found[SLOT_BITS-1:0]] = {1'b1, here.negative[i], 14'({here.word, LANE_BITS'(i)})};
              taken_after[i] = 1'b1;
              found = found + (EVENT_BITS + 1)'(1);
            end
          end
          if ((here.fires & ~taken_after) == '0) begin
            head_after = head_q + WORD_BITS'(j + 1);
            taken_after = '0;
          end
        end
      end
    end
  end

  always_comb begin
    head_next = head_q;
    taken_next = taken_q;
    if (push) begin
      head_next  = last_flit ? '0 : head_after;
      taken_next = last_flit ? '0 : taken_after;
    end
  end

  always_ff @(posedge clk) begin
    head_q  <= head_next;
    taken_q <= taken_next;
    if (advance) begin
      if (|fires) entries_q[scan_bank_q] <= entries_q[scan_bank_q] + WORD_BITS'(1);
      events_q[scan_bank_q] <= events_q[scan_bank_q] + 15'(spikes);
      if (last_word) begin
        full_q[scan_bank_q] <= 1'b1;
        last_phase_q[scan_bank_q] <= scan_last_phase;
        scan_bank_q <= !scan_bank_q;
      end
    end
    if (push) begin
      events_q[inject_bank_q] <= events_q[inject_bank_q] - 15'(EVENTS);
      if (last_flit) begin
        full_q[inject_bank_q] <= 1'b0;
        entries_q[inject_bank_q] <= '0;
        events_q[inject_bank_q] <= '0;
        inject_bank_q <= !inject_bank_q;
      end
    end
    if (rst) begin
      {full_q, scan_bank_q, inject_bank_q, head_q, taken_q} <= '0;
      for (int unsigned b = 0; b < 2; ++b) begin
        entries_q[b] <= '0;
        events_q[b]  <= '0;
      end
    end
  end

  if (EVENTS != 1 << EVENT_BITS || EVENTS > 4) begin : g_events
    $error("EVENTS_PER_FLIT must be 1, 2 or 4");
  end
endmodule

`default_nettype wire
