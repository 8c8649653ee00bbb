// Event bank: the events of one phase of a train, word by word, as entries {word, signs, spikes} of the words that have any; of a stamped train their
// slots stand before these.
//
// Entries lie in EVENTS memories in turn, so that a flit takes its events from that many words. With `read_enable`, `slot` shows in the next cycle, for each
// memory, its first entry at or after the entry `head`. FORWARD: the one written in the cycle before is there too.
`default_nettype none

module nmllm_event_bank #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned EVENTS = nmllm_pkg::EVENTS_PER_FLIT,
    parameter int unsigned WORDS = (nmllm_pkg::TILE_INPUTS + LANES - 1) / LANES,
    parameter bit FORWARD = 1'b0,
    localparam int unsigned WORD_BITS = $clog2(WORDS + 1),
    parameter int unsigned ENTRY_BITS = WORD_BITS + 2 * LANES
) (
    input  logic                                  clk,
    input  logic                                  rst,
    input  logic                                  clear,
    input  logic                                  write,
    input  logic [ENTRY_BITS-1:0]                 entry,
    output logic [ WORD_BITS-1:0]                 entries,
    input  logic                                  read_enable,
    input  logic [ WORD_BITS-1:0]                 head,
    output logic [    EVENTS-1:0][ENTRY_BITS-1:0] slot
);
  localparam int unsigned EVENT_BITS = $clog2(EVENTS);
  localparam int unsigned SLOT_BITS = EVENT_BITS > 0 ? EVENT_BITS : 1;
  localparam int unsigned ROW_BITS = $clog2((WORDS + EVENTS - 1) / EVENTS + 1);

  always_ff @(posedge clk) begin
    if (write) entries <= entries + WORD_BITS'(1);
    if (clear || rst) entries <= '0;
  end

  for (genvar s = 0; s < EVENTS; ++s) begin : g_memory
    logic write_here;
    logic [ROW_BITS-1:0] write_row, read_row;
    logic [ENTRY_BITS-1:0] stored;

    assign write_here = write && (EVENTS == 1 || SLOT_BITS'(entries) == SLOT_BITS'(s));
    assign write_row = ROW_BITS'(entries >> EVENT_BITS);
    assign read_row = ROW_BITS'((32'(head) + 32'(EVENTS - 1 - s)) >> EVENT_BITS);

    nmllm_ram #(
        .WIDTH(ENTRY_BITS),
        .DEPTH(1 << ROW_BITS)
    ) u_ram (
        .clk,
        .write_enable(write_here),
        .write_address(write_row),
        .write_data(entry),
        .read_enable,
        .read_address(read_row),
        .read_data(stored)
    );

    if (FORWARD) begin : g_forward
      logic passed_q;
      logic [ENTRY_BITS-1:0] passed_entry_q;
      always_ff @(posedge clk) begin
        passed_q <= write_here && write_row == read_row;
        if (write_here) passed_entry_q <= entry;
      end
      assign slot[s] = passed_q ? passed_entry_q : stored;
    end else begin : g_stored
      assign slot[s] = stored;
    end
  end

  if (EVENTS != 1 << EVENT_BITS || EVENTS > 4) begin : g_events
    $error("EVENTS_PER_FLIT must be 1, 2 or 4");
  end
endmodule

`default_nettype wire
