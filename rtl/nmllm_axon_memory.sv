// Axon memory of a synapse tile: the phases of a train as their events arrive, and as the tile's scheduler takes them.
//
//   in_valid, in_flit  spike flits, always taken; `events` of the flit, `closed`: the phase under way is complete with it, `stored` and
//                      written to the memory
//   take               the scheduler can start a phase in the next cycle
//   start              a phase starts in this cycle, with its inputs `driven`, `negative`
//   first, last        of the phases of the train, as they are taken; from `start` until the next one starts
//   finished           the last phase ends in this cycle; the memory is then ready for another train
//   phases             of the train, so far
//   waiting            a phase that is taken with the train's last one only has its one cycle
//
// Phases are taken as they arrive. With REVERSED they are taken from the last one on, when that has arrived; of a train without a spike
// only that one. A phase that can start in the cycle after its last flit is taken past the memory; with LEAST_FIRST it is not written either.
`default_nettype none

module nmllm_axon_memory
  import nmllm_pkg::*;
#(
    parameter  bit          REVERSED   = 1'b0,
    localparam int unsigned PHASE_BITS = MAX_PHASES > 1 ? $clog2(MAX_PHASES) : 1
) (
    input  logic                   clk,
    input  logic                   rst,
    input  logic                   in_valid,
    // verilator lint_off UNUSEDSIGNAL
    input  flit_t                  in_flit,   // its route was for the routers, its exponent is for the output stage
    // verilator lint_on UNUSEDSIGNAL
    output logic [            2:0] events,
    output logic                   closed,
    output logic                   stored,
    input  logic                   take,
    output logic                   start,
    output logic [TILE_INPUTS-1:0] driven,
    output logic [TILE_INPUTS-1:0] negative,
    output logic                   first,
    output logic                   last,
    output logic                   finished,
    output logic [   PHASE_BITS:0] phases,
    output logic                   waiting
);
  logic [TILE_INPUTS-1:0] filling_driven_q, filling_negative_q, arriving_driven, arriving_negative;
  logic [TILE_INPUTS-1:0] arrived_driven_q, arrived_negative_q, memory_driven, memory_negative;
  logic [PHASE_BITS:0] phases_q, started_q;  // closed; taken, the present one included
  logic last_known_q;  // the last closed phase is the train's last
  logic spiked_q;  // the train has an event
  logic from_arrived_q;  // the phase that starts was closed in the cycle before
  logic start_q, waiting_q, available, ending, passing;

  // A phase fills in registers and is written as one word when its last flit arrives.
  assign closed = in_valid && in_flit.flag;
  assign ending = closed && in_flit.tag[5];
  always_comb begin
    arriving_driven = filling_driven_q;
    arriving_negative = filling_negative_q;
    events = '0;
    if (in_valid) begin
      for (int e = 0; e < EVENTS_PER_FLIT; e++) begin
        automatic logic [15:0] event_bits = in_flit.payload[16*e+:16];
        if (event_bits[15] && int'(event_bits[13:0]) < TILE_INPUTS) begin
          arriving_driven[int'(event_bits[13:0])] = 1'b1;
          arriving_negative[int'(event_bits[13:0])] = event_bits[14];
          events = events + 1'b1;
        end
      end
    end
  end

  nmllm_ram #(
      .WIDTH(2 * TILE_INPUTS),
      .DEPTH(MAX_PHASES)
  ) u_words (
      .clk,
      .write_enable (stored),
      .write_address(phases_q[PHASE_BITS-1:0]),
      .write_data   ({arriving_negative, arriving_driven}),
      .read_enable  (take && !last && available),
      .read_address (PHASE_BITS'(REVERSED ? phases_q - started_q - 1'b1 : started_q)),
      .read_data    ({memory_negative, memory_driven})
  );

  assign available = (!REVERSED || last_known_q) && started_q != phases_q;
  assign passing = take && !last && !available && (REVERSED ? ending : closed);
  assign stored = closed && !(LEAST_FIRST != 0 && passing);
  assign start = start_q;
  assign driven = from_arrived_q ? arrived_driven_q : memory_driven;
  assign negative = from_arrived_q ? arrived_negative_q : memory_negative;
  assign first = started_q == 1;
  assign last = last_known_q && (started_q == phases_q || (REVERSED && !spiked_q));
  assign finished = take && last;
  assign phases = phases_q;
  assign waiting = waiting_q;

  always_ff @(posedge clk) begin
    start_q   <= 1'b0;
    waiting_q <= REVERSED && closed && !ending;
    if (in_valid) begin
      filling_driven_q <= in_flit.flag ? '0 : arriving_driven;
      filling_negative_q <= in_flit.flag ? '0 : arriving_negative;
      if (events != '0) spiked_q <= 1'b1;
    end
    if (closed) begin
      phases_q <= phases_q + 1'b1;
      last_known_q <= ending;
    end
    if (passing || (take && !last && available)) begin
      start_q <= 1'b1;
      started_q <= started_q + 1'b1;
      from_arrived_q <= passing;
      if (passing) begin
        arrived_driven_q   <= arriving_driven;
        arrived_negative_q <= arriving_negative;
      end
    end
    if (finished || rst) begin
      phases_q <= '0;
      started_q <= '0;
      last_known_q <= 1'b0;
      spiked_q <= 1'b0;
    end
    if (rst) begin
      start_q <= 1'b0;
      waiting_q <= 1'b0;
      filling_driven_q <= '0;
      filling_negative_q <= '0;
    end
  end

`ifndef SYNTHESIS
  train_in_memory : assert property (@(posedge clk) disable iff (rst) closed |-> phases_q < (PHASE_BITS + 1)'(MAX_PHASES) && !last_known_q)
  else $error("train_in_memory: a phase beyond the last of its train, or beyond %0d phases", MAX_PHASES);
  for (genvar e = 0; e < EVENTS_PER_FLIT; e++) begin : g_events
    one_event : assert property (@(posedge clk) disable iff (rst) in_valid && in_flit.payload[16*e+15] |-> !filling_driven_q[int'(in_flit.payload[16*e+:14]) % TILE_INPUTS])
    else $error("one_event: a second event of input %0d in one phase", in_flit.payload[16*e+:14]);
  end
`endif
endmodule

`default_nettype wire
