// Flits of an event bank: EVENTS events each in ascending order, one flit per cycle; a phase without events is one flit.
//
// While `complete`, `slot` are the entries of the bank from `head` on, which was `head_next` in the cycle before (nmllm_event_bank). With the push of
// the last flit the head is back at the first entry, for the next bank. The longest path is that from the bank's memories through the choice of the events
// (EVENTS x LANES) back to their addresses.
`default_nettype none

module nmllm_event_flits #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned EVENTS = nmllm_pkg::EVENTS_PER_FLIT,
    parameter int unsigned WORDS = (nmllm_pkg::TILE_INPUTS + LANES - 1) / LANES,
    localparam int unsigned LANE_BITS = $clog2(LANES),
    localparam int unsigned WORD_BITS = $clog2(WORDS + 1),
    localparam int unsigned ENTRY_BITS = WORD_BITS + 2 * LANES
) (
    input  logic                                  clk,
    input  logic                                  rst,
    input  logic                                  complete,
    input  logic [ WORD_BITS-1:0]                 entries,
    input  logic [    EVENTS-1:0][ENTRY_BITS-1:0] slot,
    output logic [ WORD_BITS-1:0]                 head_next,
    output logic                                  spike_valid,
    input  logic                                  spike_ready,
    output logic [    EVENTS-1:0][          15:0] chosen,
    output logic                                  last_flit,
    output logic                                  sent  // the last flit is pushed in this cycle
);
  localparam int unsigned EVENT_BITS = $clog2(EVENTS);
  localparam int unsigned SLOT_BITS = EVENT_BITS > 0 ? EVENT_BITS : 1;

  typedef struct packed {
    logic [WORD_BITS-1:0] word;
    logic [LANES-1:0] negative;
    logic [LANES-1:0] fires;
  } entry_t;

  logic [WORD_BITS-1:0] head_q, head_after;  // first entry with events to send
  logic [LANES-1:0] taken_q, taken_after;  // of that entry, what is sent
  logic push;

  assign spike_valid = complete;
  assign push = spike_valid && spike_ready;
  assign last_flit = head_after == entries;
  assign sent = push && last_flit;

  always_comb begin
    automatic logic [EVENT_BITS:0] found = '0;
    chosen = '0;
    head_after = head_q;
    taken_after = taken_q;
    if (spike_valid) begin
      for (int unsigned j = 0; j < EVENTS; ++j) begin
        automatic entry_t here = entry_t'(slot[EVENTS==1?0 : SLOT_BITS'(32'(head_q)+j)]);
        automatic logic [LANES-1:0] open = here.fires & ~(j == 0 ? taken_q : '0);
        if (32'(head_q) + j < 32'(entries) && found != (EVENT_BITS + 1)'(EVENTS)) begin
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

  assign head_next = sent ? '0 : push ? head_after : head_q;

  always_ff @(posedge clk) begin
    head_q <= head_next;
    if (push) taken_q <= taken_after;
    if (rst) {head_q, taken_q} <= '0;
  end
endmodule

`default_nettype wire
