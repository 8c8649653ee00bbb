// Flits of a stamped train: up to FLIT_EVENTS events in ascending order of the inputs, one flit per cycle; a train without events is one flit.
//
// As nmllm_event_flits, from one bank whose entries have the slots of their events too. `payload`: events {negative, slot, input} from bit 0 up,
// `count` of them.
`default_nettype none

module nmllm_stamped_flits
  import nmllm_pkg::*;
#(
    parameter int unsigned LANES = VECTOR_LANES,
    parameter int unsigned EVENTS = EVENTS_PER_FLIT,
    parameter int unsigned WORDS = (TILE_INPUTS + LANES - 1) / LANES,
    localparam int unsigned LANE_BITS = $clog2(LANES),
    localparam int unsigned WORD_BITS = $clog2(WORDS + 1),
    localparam int unsigned ENTRY_BITS = WORD_BITS + (2 + STAMP_BITS) * LANES
) (
    input  logic                                  clk,
    input  logic                                  rst,
    input  logic                                  complete,
    input  logic [ WORD_BITS-1:0]                 entries,
    input  logic [    EVENTS-1:0][ENTRY_BITS-1:0] slot,
    output logic [ WORD_BITS-1:0]                 head_next,
    output logic                                  spike_valid,
    input  logic                                  spike_ready,
    output logic [          63:0]                 payload,
    output logic [           1:0]                 count,
    output logic                                  last_flit,
    output logic                                  sent  // the last flit is pushed in this cycle
);
  localparam int unsigned EVENT_BITS = 15 + STAMP_BITS;
  localparam int unsigned SLOT_BITS = EVENTS > 1 ? $clog2(EVENTS) : 1;

  typedef struct packed {
    logic [LANES-1:0][STAMP_BITS-1:0] slots;
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
    payload = '0;
    count = '0;
    head_after = head_q;
    taken_after = taken_q;
    if (spike_valid) begin
      for (int unsigned j = 0; j < EVENTS; ++j) begin
        automatic entry_t here = entry_t'(slot[EVENTS==1?0 : SLOT_BITS'(32'(head_q)+j)]);
        automatic logic [LANES-1:0] open = here.fires & ~(j == 0 ? taken_q : '0);
        if (32'(head_q) + j < 32'(entries) && 32'(count) != FLIT_EVENTS) begin
          for (int unsigned i = 0; i < LANES; ++i) begin
            if (open[i] && 32'(count) != FLIT_EVENTS) begin
              payload[EVENT_BITS*32'(count)+:EVENT_BITS] = {here.negative[i], here.slots[i], 14'({here.word, LANE_BITS'(i)})};
              taken_after[i] = 1'b1;
              count = count + 2'd1;
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

  if (STEPS != 0 && FLIT_EVENTS > 3) begin : g_count_check
    $error("nmllm_stamped_flits: the tag counts up to 3 events");
  end
endmodule

`default_nettype wire
