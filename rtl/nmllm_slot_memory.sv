// Axon memory of stamped trains: every input keeps the slot of its event beside its row, and is driven when that slot's turn comes (timing.md,
// Stamped trains).
//
//   in_valid, in_flit  spike flits, always taken; `events` of the flit, `closed`: the train is complete with it
//   last_slot          of a train
//   take               the scheduler can start a slot in the next cycle
//   start              a slot starts in this cycle, with its inputs `driven`, `negative`: each slot with an event in turn, and the last one
//   first, last        of those of the train; from `start` until the next one starts
//   slot               that starts
//   decay              charge decays in this cycle to a slot that does not start
//   decays             of the train, from its first slot on
//   finished           the last slot ends in this cycle; the memory is then ready for another train
//   waiting            a train is in the memory, or part of one
//
// Before the first slot with an event there is no charge that could decay, so the train starts with it. Of a train without an event the last slot starts.
// Longest path: the next slot with an event, the comparison of every input with it, and the pick of the first rows (nmllm_membrane_scheduler).
`default_nettype none

module nmllm_slot_memory
  import nmllm_pkg::*;
(
    input  logic                   clk,
    input  logic                   rst,
    input  logic                   in_valid,
    // verilator lint_off UNUSEDSIGNAL
    input  flit_t                  in_flit,    // its route was for the routers, its exponent is for the output stage
    // verilator lint_on UNUSEDSIGNAL
    input  logic [ STAMP_BITS-1:0] last_slot,
    output logic [            2:0] events,
    output logic                   closed,
    input  logic                   take,
    output logic                   start,
    output logic [TILE_INPUTS-1:0] driven,
    output logic [TILE_INPUTS-1:0] negative,
    output logic                   first,
    output logic                   last,
    output logic [ STAMP_BITS-1:0] slot,
    output logic                   decay,
    output logic [ STAMP_BITS-1:0] decays,
    output logic                   finished,
    output logic                   waiting
);
  localparam int unsigned EVENT_BITS = 15 + STAMP_BITS;
  localparam int unsigned SLOTS = 1 << STAMP_BITS;
  localparam int unsigned HELD = FLIT_EVENTS < 3 ? FLIT_EVENTS : 3;  // events of a flit

  typedef struct packed {
    logic negative;
    logic [STAMP_BITS-1:0] slot;
    logic [13:0] place;
  } event_t;

  logic [TILE_INPUTS-1:0] spiked_q;
  logic [STAMP_BITS-1:0] slots_q[TILE_INPUTS];
  logic [SLOTS-1:0] occupied_q;  // slots with an event that have not started
  logic [STAMP_BITS-1:0] slot_q, first_q, next;
  logic complete_q, started_q, ready_q;
  event_t arriving[HELD];

  // Arrival.
  assign closed = in_valid && in_flit.flag;
  assign events = in_valid ? {1'b0, in_flit.tag[7:6]} : '0;
  always_comb begin
    for (int e = 0; e < HELD; e++) arriving[e] = event_t'(in_flit.payload[EVENT_BITS*e+:EVENT_BITS]);
  end

  // Turns: a slot that has none before it to start, else the next decay.
  always_comb begin
    next = last_slot;
    for (int s = SLOTS - 1; s >= 0; s--) if (occupied_q[s]) next = STAMP_BITS'(s);
  end
  assign start = ready_q && complete_q && !(started_q && slot_q == last_slot) && (!started_q || slot_q + 1'b1 == next);
  assign decay = ready_q && complete_q && started_q && slot_q != last_slot && !start;
  assign first = start ? !started_q : slot_q == first_q;
  assign slot = start ? next : slot_q;
  assign last = (start || started_q) && slot == last_slot;
  assign decays = last_slot - first_q;
  assign finished = take && last;
  assign waiting = complete_q || spiked_q != '0;

  always_comb begin
    driven = '0;
    if (start) begin
      // verilator unroll_disable
      for (int i = 0; i < TILE_INPUTS; i++) driven[i] = spiked_q[i] && slots_q[i] == next;
    end
  end

  always_ff @(posedge clk) begin
    ready_q <= take;
    if (in_valid) begin
      for (int e = 0; e < HELD; e++) begin
        if (e < 32'(in_flit.tag[7:6]) && 32'(arriving[e].place) < TILE_INPUTS) begin
          spiked_q[$clog2(TILE_INPUTS)'(arriving[e].place)] <= 1'b1;
          negative[$clog2(TILE_INPUTS)'(arriving[e].place)] <= arriving[e].negative;
          slots_q[$clog2(TILE_INPUTS)'(arriving[e].place)] <= arriving[e].slot;
          occupied_q[arriving[e].slot] <= 1'b1;
        end
      end
    end
    if (closed) complete_q <= 1'b1;
    if (start) begin
      started_q <= 1'b1;
      slot_q <= next;
      occupied_q[next] <= 1'b0;
      if (!started_q) first_q <= next;
    end
    if (decay) slot_q <= slot_q + 1'b1;
    if (finished || rst) begin
      complete_q <= 1'b0;
      started_q <= 1'b0;
      spiked_q <= '0;
      occupied_q <= '0;
    end
  end

`ifndef SYNTHESIS
  one_train : assert property (@(posedge clk) disable iff (rst) in_valid |-> !complete_q)
  else $error("one_train: a flit beyond the last of its train");
  for (genvar e = 0; e < int'(HELD); e++) begin : g_events
    one_event : assert property (@(posedge clk) disable iff (rst) in_valid && 2'(e) < in_flit.tag[7:6] |-> !spiked_q[$clog2(TILE_INPUTS)'(arriving[e].place)])
    else $error("one_event: a second event of input %0d", arriving[e].place);
    slot_of_the_train : assert property (@(posedge clk) disable iff (rst) in_valid && 2'(e) < in_flit.tag[7:6] |-> arriving[e].slot <= last_slot)
    else $error("slot_of_the_train: an event in slot %0d, the last one is %0d", arriving[e].slot, last_slot);
  end
`endif
endmodule

`default_nettype wire
