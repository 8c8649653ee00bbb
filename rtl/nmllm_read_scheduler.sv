// Read scheduler of a synapse tile: takes the phases of a train from the axon memory, in order, and drives the reads of each.
//
//   closed       the phase under way is complete in this cycle; closed_last: it is the train's last one; closed_driven, closed_negative:
//                its inputs. The tile writes it to the axon memory as word `closed_phase` in this cycle
//   memory_...   read port of the axon memory (data in the next cycle)
//   read, ...    COLUMN_MUX cycles per read, from the cycle after the one that picks its rows: the rows driven in each row block, slot,
//                whether it is the first read of its phase, and whether the phase is the train's first
//   empty_phase  a phase without events, in the only cycle it takes
//   pick_counts  rows picked in each row block, valid with `pick` (for the counters)
//   busy         a phase is under way: start_t .. finish_t - 1 of timing.md
//   finished     last cycle of the train's last phase; the scheduler is then ready for another train
//
// A phase of r reads takes COLUMN_MUX * r + READ_LATENCY cycles: picking, conversion and accumulation are a pipeline of three, so
// READ_LATENCY is at least 2. The longest path is the pick of the first read of a phase, from the axon memory's output through the
// search of the first ACTIVE_ROWS driven inputs of every row block; the others have COLUMN_MUX cycles.
`default_nettype none

module nmllm_read_scheduler
  import nmllm_pkg::*;
#(
    localparam int unsigned PHASE_BITS = MAX_PHASES > 1 ? $clog2(MAX_PHASES) : 1,
    localparam int unsigned SLOT_BITS  = COLUMN_MUX > 1 ? $clog2(COLUMN_MUX) : 1,
    localparam int unsigned COUNT_BITS = $clog2(ACTIVE_ROWS + 1)
) (
    input  logic                   clk,
    input  logic                   rst,
    input  logic                   closed,
    input  logic                   closed_last,
    input  logic [TILE_INPUTS-1:0] closed_driven,
    input  logic [TILE_INPUTS-1:0] closed_negative,
    output logic [ PHASE_BITS-1:0] closed_phase,
    output logic                   memory_enable,
    output logic [ PHASE_BITS-1:0] memory_address,
    input  logic [TILE_INPUTS-1:0] memory_driven,
    input  logic [TILE_INPUTS-1:0] memory_negative,
    output logic                   read,
    output logic                   read_first,
    output logic                   read_clear,
    output logic [  SLOT_BITS-1:0] read_slot,
    output logic [       ROWS-1:0] read_driven    [ROW_BLOCKS],
    output logic [       ROWS-1:0] read_negative  [ROW_BLOCKS],
    output logic                   empty_phase,
    output logic                   empty_clear,
    output logic                   pick,
    output logic [ COUNT_BITS-1:0] pick_counts    [ROW_BLOCKS],
    output logic                   busy,
    output logic                   finished
);
  /* verilator no_inline_module */  // one C++ function for all instances
  typedef enum logic [1:0] {
    IDLE,
    START,
    READ,
    DRAIN
  } state_t;

  localparam int unsigned DRAIN_BITS = $clog2(READ_LATENCY + 1);
  localparam logic [SLOT_BITS-1:0] LAST_SLOT = SLOT_BITS'(COLUMN_MUX - 1);

  state_t state;
  logic [PHASE_BITS:0] phases;  // closed
  logic [PHASE_BITS:0] started;  // phases whose work began, the present one included
  logic last_known;  // the last closed phase is the train's last
  logic from_closed;  // the phase that starts was closed in the cycle before
  logic [DRAIN_BITS-1:0] drain;
  logic [SLOT_BITS-1:0] slot;
  logic first_read;
  logic [TILE_INPUTS-1:0] arrived_driven, arrived_negative;
  logic [ROWS-1:0] left_driven[ROW_BLOCKS], negative[ROW_BLOCKS];

  logic [ROWS-1:0] next_left[ROW_BLOCKS], next_negative[ROW_BLOCKS], picked[ROW_BLOCKS];
  logic [COUNT_BITS-1:0] counts[ROW_BLOCKS];
  logic issue, reads_end, phase_end, last_phase, free, available, remaining, has_events;
  logic [SLOT_BITS-1:0] issue_slot;

  assign closed_phase = phases[PHASE_BITS-1:0];
  assign memory_address = started[PHASE_BITS-1:0];

  // Rows left of the phase that starts or is under way.
  always_comb begin
    has_events = 1'b0;
    if (state == START) has_events = from_closed ? arrived_driven != '0 : memory_driven != '0;
  end
  assign issue = (state == START && has_events) || state == READ;
  assign issue_slot = state == START ? '0 : slot;
  assign pick = issue && issue_slot == '0;
  assign empty_phase = state == START && !has_events;
  assign empty_clear = started == 1;

  always_comb begin
    remaining = 1'b0;
    for (int b = 0; b < ROW_BLOCKS; b++) begin
      next_left[b] = left_driven[b];
      next_negative[b] = negative[b];
      picked[b] = '0;
      counts[b] = '0;
    end
    if (pick) begin
      for (int b = 0; b < ROW_BLOCKS; b++) begin
        automatic logic [ROWS-1:0] source = left_driven[b];
        if (state == START) begin
          source = from_closed ? arrived_driven[b*ROWS+:ROWS] : memory_driven[b*ROWS+:ROWS];
          next_negative[b] = from_closed ? arrived_negative[b*ROWS+:ROWS] : memory_negative[b*ROWS+:ROWS];
        end
        next_left[b] = source;
        // verilator unroll_disable
        for (int n = 0; n < ACTIVE_ROWS; n++) begin
          if (next_left[b] != '0) counts[b] = counts[b] + 1'b1;
          next_left[b] = next_left[b] & (next_left[b] - 1'b1);
        end
        picked[b] = source & ~next_left[b];
      end
    end
    if (issue && issue_slot == LAST_SLOT) begin
      for (int b = 0; b < ROW_BLOCKS; b++) remaining = remaining || next_left[b] != '0;
    end
  end
  assign pick_counts = counts;

  assign reads_end = issue && issue_slot == LAST_SLOT && !remaining;
  assign phase_end = empty_phase || (state == DRAIN && drain == 1);
  assign last_phase = last_known && started == phases;
  assign finished = phase_end && last_phase;
  assign free = (state == IDLE || phase_end) && !last_phase;
  assign available = started != phases;
  assign memory_enable = free && available;
  assign busy = state != IDLE;

  always_ff @(posedge clk) begin
    if (closed) begin
      phases <= phases + 1'b1;
      last_known <= closed_last;
    end
    if (free && (available || closed)) begin
      state <= START;
      started <= started + 1'b1;
      from_closed <= !available;
      if (!available) begin
        arrived_driven <= closed_driven;
        arrived_negative <= closed_negative;
      end
    end else if (phase_end) begin
      state <= IDLE;
    end else if (reads_end) begin
      state <= DRAIN;
      drain <= DRAIN_BITS'(READ_LATENCY);
    end else if (issue) begin
      state <= READ;
    end else if (state == DRAIN) begin
      drain <= drain - 1'b1;
    end

    read <= issue;
    if (issue) begin
      slot <= issue_slot == LAST_SLOT ? '0 : issue_slot + 1'b1;
      read_slot <= issue_slot;
      read_first <= state == START || (first_read && issue_slot != '0);
      first_read <= state == START || (first_read && issue_slot != '0);
      read_clear <= started == 1;
    end
    if (pick) begin
      left_driven   <= next_left;
      negative      <= next_negative;
      read_driven   <= picked;
      read_negative <= next_negative;
    end

    if (finished) begin
      phases <= '0;
      started <= '0;
      last_known <= 1'b0;
    end
    if (rst) begin
      state <= IDLE;
      read <= 1'b0;
      phases <= '0;
      started <= '0;
      last_known <= 1'b0;
    end
  end

  if (READ_LATENCY < 2) begin : gen_latency_check
    $error("nmllm_read_scheduler: READ_LATENCY is at least 2");
  end

`ifndef SYNTHESIS
  train_in_memory : assert property (@(posedge clk) disable iff (rst) closed |-> phases < (PHASE_BITS + 1)'(MAX_PHASES) && !last_known)
  else $error("train_in_memory: a phase beyond the last of its train, or beyond %0d phases", MAX_PHASES);
`endif
endmodule

`default_nettype wire
