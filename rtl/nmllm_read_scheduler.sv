// Read scheduler of a tile that converts read by read: drives the reads of each phase.
//
//   start, ...   a phase starts, with its inputs `driven`, `negative`; `first`: the train's first. See nmllm_axon_memory
//   take         another phase can start in the next cycle
//   read, ...    COLUMN_MUX slots per read, of CONVERSION_CYCLES each, from the cycle after the one that picks its rows: the rows driven in
//                each row block, slot, whether it is the first read of its phase, and whether the phase is the train's first; `read` in the
//                last cycle of each slot
//   empty_phase  a phase without events, in the only cycle it takes
//   pick_counts  rows picked in each row block, valid with `pick` (for the counters)
//   busy         a phase is under way: start_t .. finish_t - 1 of timing.md
//   over         what was read is converted and added; with `again` a half is read next instead of ending the phase: `half_pick` in its first
//                cycle, in which `half_driven` are its rows (nmllm_reread_tree)
//
// A phase of r reads takes COLUMN_MUX * CONVERSION_CYCLES * r + READ_LATENCY cycles, each half as many as a read and READ_LATENCY: picking, conversion and accumulation are a pipeline of three, so
// READ_LATENCY is at least 2. The longest path is the pick of the first read of a phase, from the axon memory's output through the
// search of the first ACTIVE_ROWS driven inputs of every row block; the others have the cycles of a read.
`default_nettype none

module nmllm_read_scheduler
  import nmllm_pkg::*;
#(
    localparam int unsigned SLOT_BITS  = COLUMN_MUX > 1 ? $clog2(COLUMN_MUX) : 1,
    localparam int unsigned COUNT_BITS = $clog2(ACTIVE_ROWS + 1)
) (
    input  logic                   clk,
    input  logic                   rst,
    input  logic                   start,
    input  logic [TILE_INPUTS-1:0] driven,
    input  logic [TILE_INPUTS-1:0] negative,
    input  logic                   first,
    output logic                   take,
    output logic                   read,
    output logic                   read_first,
    output logic                   read_clear,
    output logic [  SLOT_BITS-1:0] read_slot,
    output logic [       ROWS-1:0] read_driven  [ROW_BLOCKS],
    output logic [       ROWS-1:0] read_negative[ROW_BLOCKS],
    output logic                   empty_phase,
    output logic                   pick,
    output logic [ COUNT_BITS-1:0] pick_counts  [ROW_BLOCKS],
    output logic                   busy,
    output logic                   over,
    input  logic                   again,
    output logic                   half_pick,
    input  logic [       ROWS-1:0] half_driven  [ROW_BLOCKS]
);
  /* verilator no_inline_module */  // one C++ function for all instances
  typedef enum logic [1:0] {
    IDLE,
    READ,
    DRAIN
  } state_t;

  localparam int unsigned DRAIN_BITS = $clog2(READ_LATENCY + 1);
  localparam int unsigned CYCLE_BITS = $clog2(CONVERSION_CYCLES + 1);
  localparam logic [SLOT_BITS-1:0] LAST_SLOT = SLOT_BITS'(COLUMN_MUX - 1);
  localparam logic [CYCLE_BITS-1:0] LAST_CYCLE = CYCLE_BITS'(CONVERSION_CYCLES - 1);

  state_t state;
  logic [DRAIN_BITS-1:0] drain;
  logic [SLOT_BITS-1:0] slot;
  logic [CYCLE_BITS-1:0] cycle;  // of the slot
  logic first_read, half;
  logic [ROWS-1:0] left_driven[ROW_BLOCKS], phase_negative[ROW_BLOCKS];

  logic [ROWS-1:0] source[ROW_BLOCKS], next_left[ROW_BLOCKS], next_negative[ROW_BLOCKS], picked[ROW_BLOCKS];
  logic issue, row_pick, slot_end, read_end, reads_end, phase_end, remaining, has_events;
  logic [SLOT_BITS-1:0] issue_slot;
  logic [CYCLE_BITS-1:0] issue_cycle;

  assign has_events = start && driven != '0;
  assign issue = has_events || state == READ;
  assign issue_slot = start ? '0 : slot;
  assign issue_cycle = start ? '0 : cycle;
  assign row_pick = issue && issue_slot == '0 && issue_cycle == '0;
  assign pick = row_pick && (start || !half);
  assign half_pick = row_pick && !start && half;
  assign slot_end = issue && issue_cycle == LAST_CYCLE;
  assign read_end = slot_end && issue_slot == LAST_SLOT;
  assign empty_phase = start && !has_events;

  // Rows left of the phase that starts or is under way.
  for (genvar b = 0; b < ROW_BLOCKS; b++) begin : g_blocks
    assign source[b] = start ? driven[b*ROWS+:ROWS] : left_driven[b];
    assign next_negative[b] = start ? negative[b*ROWS+:ROWS] : phase_negative[b];
    nmllm_row_pick u_pick (
        .pick,
        .driven(source[b]),
        .picked(picked[b]),
        .left  (next_left[b]),
        .count (pick_counts[b])
    );
  end

  always_comb begin
    remaining = 1'b0;
    if (read_end) begin
      for (int b = 0; b < ROW_BLOCKS; b++) remaining = remaining || next_left[b] != '0;
    end
  end

  assign reads_end = read_end && !remaining;
  assign over = state == DRAIN && drain == 1;
  assign phase_end = empty_phase || (over && !again);
  assign take = (state == IDLE && !start) || phase_end;
  assign busy = start || state != IDLE;

  always_ff @(posedge clk) begin
    if (phase_end) begin
      state <= IDLE;
    end else if (reads_end) begin
      state <= DRAIN;
      drain <= DRAIN_BITS'(READ_LATENCY);
    end else if (issue || over) begin
      state <= READ;
    end else if (state == DRAIN) begin
      drain <= drain - 1'b1;
    end

    read <= slot_end;
    if (issue) begin
      cycle <= slot_end ? '0 : issue_cycle + 1'b1;
      slot <= read_end ? '0 : slot_end ? issue_slot + 1'b1 : issue_slot;
      read_slot <= issue_slot;
      read_first <= start || (first_read && !row_pick);
      first_read <= start || (first_read && !row_pick);
      read_clear <= first;
    end
    half <= over || (half && !start);
    if (pick) begin
      left_driven <= next_left;
      phase_negative <= next_negative;
      read_negative <= next_negative;
    end
    if (row_pick) read_driven <= half_pick ? half_driven : picked;
    if (rst) begin
      state <= IDLE;
      read  <= 1'b0;
    end
  end

  if (READ_LATENCY < 2) begin : gen_latency_check
    $error("nmllm_read_scheduler: READ_LATENCY is at least 2");
  end
endmodule

`default_nettype wire
