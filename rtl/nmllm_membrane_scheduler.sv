// Scheduler of a tile with membranes: integrates the phases of a train, then has every column converted once.
//
//   start, ...   a phase starts, with its inputs `driven`, `negative`; `first`, `last`: of the train, see nmllm_axon_memory
//   take         another phase can start in the next cycle
//   discharge    all membranes, in the first cycle of a train; halve: their charge, in the first cycle of every other phase
//   integrate    the rows `integrate_driven` of each row block, in the first cycle of READ_LATENCY
//   convert      columns of `slot`, in the last of CONVERSION_CYCLES, 1 + REPEATS times from `convert_first` to `convert_last`
//   spiked       row blocks with an event in the train, from its last phase on
//   empty_train  a train without an event ends in this cycle
//   pick_counts  rows picked for the next integration, valid with `pick` (for the counters)
//   busy         a phase is under way: start_t .. finish_t - 1 of timing.md
//
// A phase of r integrations takes 1 + READ_LATENCY * r cycles, the last one of a train with an event COLUMN_MUX * (1 + REPEATS) *
// CONVERSION_CYCLES more.
// Longest path: the pick of the first rows, as in nmllm_read_scheduler.
`default_nettype none

module nmllm_membrane_scheduler
  import nmllm_pkg::*;
#(
    localparam int unsigned SLOT_BITS  = COLUMN_MUX > 1 ? $clog2(COLUMN_MUX) : 1,
    localparam int unsigned COUNT_BITS = $clog2(ACTIVE_ROWS + 1)
) (
    input  logic                   clk,
    input  logic                   rst,
    input  logic                   horner,
    input  logic                   start,
    input  logic [TILE_INPUTS-1:0] driven,
    input  logic [TILE_INPUTS-1:0] negative,
    input  logic                   first,
    input  logic                   last,
    output logic                   take,
    output logic                   discharge,
    output logic                   halve,
    output logic                   integrate,
    output logic [       ROWS-1:0] integrate_driven  [ROW_BLOCKS],
    output logic [       ROWS-1:0] integrate_negative[ROW_BLOCKS],
    output logic                   convert,
    output logic                   convert_first,
    output logic                   convert_last,
    output logic [  SLOT_BITS-1:0] slot,
    output logic [ ROW_BLOCKS-1:0] spiked,
    output logic                   empty_train,
    output logic                   pick,
    output logic [ COUNT_BITS-1:0] pick_counts       [ROW_BLOCKS],
    output logic                   busy
);
  /* verilator no_inline_module */  // one C++ function for all instances
  typedef enum logic [1:0] {
    IDLE,
    INTEGRATE,
    CONVERT
  } state_t;

  localparam int unsigned WAIT_BITS = $clog2(READ_LATENCY + 1);
  localparam int unsigned REPEAT_BITS = $clog2(REPEATS + 2);
  localparam int unsigned CYCLE_BITS = $clog2(CONVERSION_CYCLES + 1);
  localparam logic [SLOT_BITS-1:0] LAST_SLOT = SLOT_BITS'(COLUMN_MUX - 1);

  state_t state_q;
  logic [WAIT_BITS-1:0] wait_q;  // cycles of the integration that are left
  logic [REPEAT_BITS-1:0] repeat_q;
  logic [SLOT_BITS-1:0] slot_q;
  logic [CYCLE_BITS-1:0] cycle_q;  // of the conversion
  logic [ROW_BLOCKS-1:0] spiked_q, picks;
  logic integrate_q;
  logic [ROWS-1:0] left_q[ROW_BLOCKS], negative_q[ROW_BLOCKS];  // of the phase under way
  logic [ROWS-1:0] integrated_q[ROW_BLOCKS], source[ROW_BLOCKS], left[ROW_BLOCKS], picked[ROW_BLOCKS];
  logic integration_end, remaining, integrated, converts, conversions_end, phase_end;

  always_comb begin
    remaining = 1'b0;
    if (integration_end) begin
      for (int b = 0; b < ROW_BLOCKS; b++) remaining = remaining || left_q[b] != '0;
    end
  end
  assign integration_end = state_q == INTEGRATE && wait_q == 0;
  assign pick = (start && driven != '0) || remaining;

  for (genvar b = 0; b < ROW_BLOCKS; b++) begin : g_blocks
    assign source[b] = start ? driven[b*ROWS+:ROWS] : left_q[b];
    nmllm_row_pick u_pick (
        .pick,
        .driven(source[b]),
        .picked(picked[b]),
        .left  (left[b]),
        .count (pick_counts[b])
    );
    assign picks[b] = pick_counts[b] != '0;
  end

  // The charge of the phase is complete, and that of the train with its last phase.
  assign integrated = (start || integration_end) && !pick;
  assign converts = integrated && last && (integration_end || (!first && spiked_q != '0));
  assign conversions_end = convert_last && slot_q == LAST_SLOT;
  assign phase_end = (integrated && !converts) || conversions_end;
  assign take = (state_q == IDLE && !start) || phase_end;
  assign empty_train = integrated && last && !converts;
  assign busy = start || state_q != IDLE;

  assign discharge = start && first;
  assign halve = start && !first && horner;
  assign integrate = integrate_q;
  assign integrate_driven = integrated_q;
  assign integrate_negative = negative_q;
  assign convert = state_q == CONVERT && cycle_q == CYCLE_BITS'(CONVERSION_CYCLES - 1);
  assign convert_first = convert && repeat_q == '0;
  assign convert_last = convert && repeat_q == REPEAT_BITS'(REPEATS);
  assign slot = slot_q;
  assign spiked = spiked_q;

  always_ff @(posedge clk) begin
    integrate_q <= pick;
    if (start) spiked_q <= (first ? '0 : spiked_q) | picks;
    if (start && pick) begin
      for (int b = 0; b < ROW_BLOCKS; b++) negative_q[b] <= negative[b*ROWS+:ROWS];
    end
    if (pick) begin
      left_q <= left;
      integrated_q <= picked;
      wait_q <= WAIT_BITS'(READ_LATENCY - 1);
      state_q <= INTEGRATE;
    end else if (state_q == INTEGRATE) begin
      wait_q <= wait_q - 1'b1;
    end
    cycle_q <= convert ? '0 : cycle_q + 1'b1;
    if (convert) begin
      repeat_q <= convert_last ? '0 : repeat_q + 1'b1;
      if (convert_last) slot_q <= slot_q + 1'b1;
    end
    if (converts) begin
      state_q  <= CONVERT;
      slot_q   <= '0;
      cycle_q  <= '0;
      repeat_q <= '0;
    end
    if (phase_end) state_q <= IDLE;
    if (rst) begin
      state_q <= IDLE;
      integrate_q <= 1'b0;
    end
  end

  if (READ_LATENCY < 1) begin : g_latency_check
    $error("nmllm_membrane_scheduler: READ_LATENCY is at least 1");
  end
endmodule

`default_nettype wire
