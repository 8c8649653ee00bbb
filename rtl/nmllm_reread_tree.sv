// Order in which a tile reads halves again: after the reads of a phase, those of each read in which a column saturated, depth first.
//
//   start, driven  a phase begins, with its driven inputs
//   add, slot_end  results of a slot are there, `slot_end` the last one's; `found`: a column of them saturated
//   over           the results of what was read are all there in this cycle (the last ones may be there now)
//   again          a half is read next
//   half, level, number   the half being read: its level in the tree of the read `number`. Without `half`: number of the read whose results come
//   half_driven    rows of the half in each row block, while `pick`; `half_counts` their number
//
// A half is the first ceil(n / 2) of the n rows of what it halves, in ascending order, or the others.
`default_nettype none

module nmllm_reread_tree
  import nmllm_pkg::*;
#(
    localparam int unsigned READS      = (ROWS + ACTIVE_ROWS - 1) / ACTIVE_ROWS,
    localparam int unsigned READ_BITS  = READS > 1 ? $clog2(READS) : 1,
    localparam int unsigned DEPTH     = ACTIVE_ROWS > 1 ? $clog2(ACTIVE_ROWS) : 1,
    localparam int unsigned DEPTH_BITS = $clog2(DEPTH + 1),
    localparam int unsigned COUNT_BITS = $clog2(ACTIVE_ROWS + 1)
) (
    input  logic                   clk,
    input  logic                   rst,
    input  logic                   start,
    input  logic [TILE_INPUTS-1:0] driven,
    input  logic                   add,
    input  logic                   slot_end,
    input  logic                   found,
    input  logic                   over,
    input  logic                   pick,
    output logic                   again,
    output logic                   half,
    output logic [ DEPTH_BITS-1:0] level,
    output logic [  READ_BITS-1:0] number,
    output logic [       ROWS-1:0] half_driven[ROW_BLOCKS],
    output logic [ COUNT_BITS-1:0] half_counts[ROW_BLOCKS]
);
  localparam int unsigned RANK_BITS = $clog2(ROWS + 1);

  logic half_q, found_q;  // a column of what is read saturated
  logic [DEPTH_BITS-1:0] level_q;
  logic [READ_BITS-1:0] number_q;
  logic [READS-1:0] saturated_q, saturated;  // reads that are to be halved
  logic [DEPTH:1] second_q;  // which half was taken at each level, up to the present one
  logic [ROWS-1:0] driven_q[ROW_BLOCKS];

  assign half = half_q;
  assign level = level_q;
  assign number = number_q;

  // Next half: below the present one if it saturated, else the second one beside it or beside the nearest half above, else of the next read.
  logic [DEPTH_BITS-1:0] next_level;
  logic [READ_BITS-1:0] next_number;
  logic below, beside;
  always_comb begin
    saturated = saturated_q;
    if (add && found && !half_q) saturated[number_q] = 1'b1;
    below = half_q && (found_q || (add && found));
    beside = 1'b0;
    next_level = DEPTH_BITS'(1);
    next_number = number_q;
    again = 1'b0;
    if (over) begin
      if (below) begin
        next_level = level_q + 1'b1;
      end else if (half_q) begin
        for (int k = 1; k <= DEPTH; k++) begin
          if (k <= int'(level_q) && !second_q[k]) begin
            beside = 1'b1;
            next_level = DEPTH_BITS'(k);
          end
        end
      end
      if (!below && !beside) begin
        for (int r = READS - 1; r >= 0; r--) begin
          if (saturated[r]) next_number = READ_BITS'(r);
        end
      end
      again = below || beside || saturated != '0;
    end
  end

  always_ff @(posedge clk) begin
    if (start) begin
      for (int b = 0; b < ROW_BLOCKS; b++) driven_q[b] <= driven[b*ROWS+:ROWS];
    end
    if (add && found) found_q <= 1'b1;
    saturated_q <= saturated;
    if (add && slot_end && !half_q) number_q <= number_q + 1'b1;
    if (again) begin
      half_q   <= 1'b1;
      found_q  <= 1'b0;
      level_q  <= next_level;
      number_q <= next_number;
      second_q[next_level] <= beside;
      if (!below && !beside) saturated_q[next_number] <= 1'b0;
    end
    if ((over && !again) || rst) begin
      half_q <= 1'b0;
      found_q <= 1'b0;
      number_q <= '0;
      saturated_q <= '0;
    end
  end

  for (genvar b = 0; b < ROW_BLOCKS; b++) begin : g_blocks
    logic [RANK_BITS-1:0] count, first, size, rank;
    always_comb begin
      half_driven[b] = '0;
      count = '0;
      first = '0;
      size = '0;
      rank = '0;
      if (pick) begin
        count = RANK_BITS'($countones(driven_q[b]));
        first = RANK_BITS'(int'(number_q) * ACTIVE_ROWS);
        if (count > first) size = count - first > RANK_BITS'(ACTIVE_ROWS) ? RANK_BITS'(ACTIVE_ROWS) : count - first;
        for (int k = 1; k <= DEPTH; k++) begin
          if (k <= int'(level_q)) begin
            if (second_q[k]) begin
              first = first + ((size + 1'b1) >> 1);
              size = size >> 1;
            end else begin
              size = (size + 1'b1) >> 1;
            end
          end
        end
        // verilator unroll_disable
        for (int r = 0; r < ROWS; r++) begin
          if (driven_q[b][r]) begin
            half_driven[b][r] = rank >= first && rank - first < size;
            rank = rank + 1'b1;
          end
        end
      end
    end
    assign half_counts[b] = COUNT_BITS'(size);
  end
endmodule

`default_nettype wire
