// Rotary embedding of the queries and keys of one token, in place (numerics.md), and the largest magnitude of every rotated query head.
//
// The vector holds heads of D elements one after another, the queries first. With D > LANES (then a multiple of 2 LANES) the words of the two
// halves of a head are read in turn, x1 and x2 at the same offset; with D <= LANES (then D divides LANES) both halves are in one word.
// A lane multiplies one element with the cosine and its partner with the sine, so LANES elements are done a cycle in both cases.
// The rotary table's word has one pair per lane, the cosine in the low half: pair j of a position is lane j % LANES of word j / LANES.
//
// Command: `start` with `size` (N = heads x D), the vector's first word and the table's first word of the position; takes P(N) + LATENCY
// cycles, of which 4 are needed beyond P(N). The first address goes out in the cycle of `start`. Lanes of the last word beyond N stay.
// `maximum_valid[g]`: `maximum[g]` is that of query head `maximum_head` + g; at the latest in the cycle after `done`.
//
// Register map (cfg_address): 0 D; 1 the number of query heads.
// Counters: elements (N), elements compared for a maximum (those of the queries), words of 32 bits read and written (N each), 16-bit entries
// of the rotary tables used (N).
`default_nettype none

module nmllm_rope #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned LATENCY = nmllm_pkg::VECTOR_LATENCY,
    parameter int unsigned ADDRESS_BITS = $clog2(nmllm_pkg::VECTOR_MEMORY_BYTES / 4 / LANES),
    parameter int unsigned TABLE_ADDRESS_BITS = 16,
    localparam int unsigned GROUPS = LANES / 2  // heads that a word holds at most
) (
    input  logic                                  clk,
    input  logic                                  rst,
    input  logic                                  cfg_valid,
    input  logic                                  cfg_address,
    // Registers are narrower than the bus.
    // verilator lint_off UNUSEDSIGNAL
    input  logic         [                  63:0] cfg_data,
    // verilator lint_on UNUSEDSIGNAL
    // command
    input  logic                                  start,
    input  logic         [                  14:0] size,
    input  logic         [      ADDRESS_BITS-1:0] vector_base,
    input  logic         [TABLE_ADDRESS_BITS-1:0] table_base,
    output logic                                  done,
    // memories
    output logic                                  read_enable,
    output logic         [      ADDRESS_BITS-1:0] read_address,
    input  logic [ LANES-1:0][              31:0] read_data,
    output logic                                  table_enable,
    output logic         [TABLE_ADDRESS_BITS-1:0] table_address,
    input  logic [ LANES-1:0][              31:0] table_data,
    output logic                                  write_enable,
    output logic         [      ADDRESS_BITS-1:0] write_address,
    output logic [ LANES-1:0][              31:0] write_data,
    // to the attention engines
    output logic [GROUPS-1:0]                     maximum_valid,
    output logic         [                   9:0] maximum_head,
    output logic [GROUPS-1:0][              31:0] maximum,
    // counters
    output logic         [                  47:0] count_elements,
    output logic         [                  47:0] count_maximum_elements,
    output logic         [                  47:0] count_words_read,
    output logic         [                  47:0] count_words_written,
    output logic         [                  47:0] count_table_entries
);
  /* verilator no_inline_module */  // one C++ function for all instances
  localparam int unsigned LANE_BITS = $clog2(LANES);
  localparam int unsigned LEVEL_BITS = $clog2(LANE_BITS + 1);
  localparam int unsigned TIMER_BITS = 16 + $clog2(LATENCY);

  // configuration
  logic [10:0] head_dim_q;
  logic [9:0] query_heads_q;
  logic wide;  // a word holds one head or more
  logic [10:0] half_words;  // words of half a head, if it is longer than a word
  logic [10:0] half_lanes;  // D / 2
  logic [LEVEL_BITS-1:0] head_level;  // log2 of D, for wide words

  // issue: base of the head, offset in its half, half
  logic [14:0] left_q, left;
  logic [LANE_BITS:0] tail_q;
  logic [TIMER_BITS-1:0] timer_q;
  logic [ADDRESS_BITS-1:0] head_base_q, head_base;
  logic [10:0] offset_q, offset;
  logic second_q, second, last_offset;
  logic [TABLE_ADDRESS_BITS-1:0] table_base_q;
  logic issue;
  logic [14:0] words;

  // pipeline: 1 read data, 2 products, 3 rounding, 4 write
  logic [3:1] valid_q, last_q;
  logic [2:1] second_s_q;
  logic [ADDRESS_BITS-1:0] address1_q, address2_q, address3_q;
  logic [9:0] offset1_q;
  logic signed [31:0] x1_q[LANES], x2_q[LANES];
  logic signed [48:0] sum_q[LANES];
  logic [31:0] own_q[LANES];

  // maximum: level k holds the largest magnitudes of 2^k neighbours
  logic head_end;  // the word in the write stage ends a head
  logic [9:0] head_q;
  logic [31:0] largest_q, largest;
  logic [31:0] level[LANE_BITS+1][LANES];

  function automatic logic [31:0] round_saturated(input logic signed [48:0] value);
    automatic logic signed [48:0] rounded = (value + 49'sd8192) >>> 14;
    if (rounded > 49'sh7fff_ffff) round_saturated = 32'h7fff_ffff;
    else if (rounded < -49'sh8000_0000) round_saturated = 32'h8000_0000;
    else round_saturated = rounded[31:0];
  endfunction

  assign words = 15'((32'(size) + LANES - 1) >> LANE_BITS);
  assign wide = 32'(head_dim_q) <= LANES;
  assign half_lanes = head_dim_q >> 1;
  assign half_words = half_lanes >> LANE_BITS;
  always_comb begin
    head_level = '0;
    for (int unsigned k = 0; k <= LANE_BITS; ++k) if (32'(head_dim_q) == 1 << k) head_level = LEVEL_BITS'(k);
  end

  assign issue = start || left_q != '0;
  assign left = start ? words : left_q;
  assign head_base = start ? vector_base : head_base_q;
  assign offset = start ? '0 : offset_q;
  assign second = !start && second_q;
  assign last_offset = wide || (second && offset + 11'd1 == half_words);
  assign read_enable = issue;
  assign read_address = head_base + ADDRESS_BITS'(offset) + (second ? ADDRESS_BITS'(half_words) : '0);
  assign table_enable = valid_q[1];
  assign table_address = table_base_q + TABLE_ADDRESS_BITS'(offset1_q);
  assign done = timer_q == TIMER_BITS'(1);

  always_ff @(posedge clk) begin
    if (cfg_valid) begin
      if (cfg_address) query_heads_q <= cfg_data[9:0];
      else head_dim_q <= cfg_data[10:0];
    end
    if (timer_q != '0) timer_q <= timer_q - TIMER_BITS'(1);
    if (issue) begin
      left_q <= left - 15'd1;
      if (last_offset) begin
        head_base_q <= head_base + (wide ? ADDRESS_BITS'(1) : ADDRESS_BITS'({half_words, 1'b0}));
        offset_q <= '0;
        second_q <= 1'b0;
      end else begin
        head_base_q <= head_base;
        offset_q <= second ? offset + 11'd1 : offset;
        second_q <= !second;
      end
    end
    if (start) begin
      table_base_q <= table_base;
      tail_q <= size[LANE_BITS-1:0] == '0 ? (LANE_BITS + 1)'(LANES) : {1'b0, size[LANE_BITS-1:0]};
      timer_q <= TIMER_BITS'(words) + TIMER_BITS'(LATENCY - 1);
    end
    valid_q <= {valid_q[2:1], issue};
    second_s_q <= {second_s_q[1], second};
    last_q <= {last_q[2:1], left == 15'd1};
    {address1_q, address2_q, address3_q} <= {read_address, address1_q, address2_q};
    offset1_q <= offset[9:0];
    if (rst) {left_q, timer_q, valid_q} <= '0;
  end

  // read data, products, rounding
  always_ff @(posedge clk) begin
    if (valid_q[1]) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        if (second_s_q[1]) x2_q[i] <= read_data[i];
        else x1_q[i] <= read_data[i];
      end
    end
    if (valid_q[2]) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        automatic logic [LANE_BITS-1:0] lane = LANE_BITS'(i);
        automatic logic [LANE_BITS-1:0] half = LANE_BITS'(half_lanes);
        automatic logic upper = wide ? (lane & half) != '0 : second_s_q[2];
        automatic logic [LANE_BITS-1:0] pair = wide ? lane & (half - LANE_BITS'(1)) : lane;
        automatic logic signed [31:0] own = second_s_q[2] ? x2_q[i] : x1_q[i];
        // The second half's word arrives as that of the first is multiplied.
        automatic logic signed [31:0] other = wide ? x1_q[lane^half] : second_s_q[2] ? x1_q[i] : read_data[i];
        automatic logic signed [48:0] along = 49'(own) * 49'(signed'(table_data[pair][15:0]));
        automatic logic signed [48:0] across = 49'(other) * 49'(signed'(table_data[pair][31:16]));
        sum_q[i] <= upper ? along + across : along - across;
        own_q[i] <= own;
      end
    end
    write_enable <= valid_q[3];
    write_address <= address3_q;
    if (valid_q[3]) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        write_data[i] <= last_q[3] && tail_q <= (LANE_BITS + 1)'(i) ? own_q[i] : round_saturated(sum_q[i]);
      end
    end
    if (rst) write_enable <= 1'b0;
  end

  // largest magnitudes of the word being written, and of the head so far
  always_comb begin
    for (int unsigned k = 0; k <= LANE_BITS; ++k) begin
      for (int unsigned i = 0; i < LANES; ++i) level[k][i] = '0;
    end
    if (write_enable) begin
      for (int unsigned i = 0; i < LANES; ++i) level[0][i] = write_data[i][31] ? -write_data[i] : write_data[i];
      for (int unsigned k = 1; k <= LANE_BITS; ++k) begin
        for (int unsigned i = 0; i < LANES >> k; ++i) begin
          level[k][i] = level[k-1][2*i] > level[k-1][2*i+1] ? level[k-1][2*i] : level[k-1][2*i+1];
        end
      end
    end
    largest = level[LANE_BITS][0] > largest_q ? level[LANE_BITS][0] : largest_q;
  end

  logic [10:0] written_q;  // words of the present head written
  assign head_end = wide || written_q + 11'd1 == {half_words[9:0], 1'b0};

  always_ff @(posedge clk) begin
    maximum_valid <= '0;
    if (write_enable) begin
      maximum_head <= head_q;
      if (head_end) begin
        head_q <= head_q + (wide ? 10'(LANES >> head_level) : 10'd1);
        largest_q <= '0;
        written_q <= '0;
        for (int unsigned g = 0; g < GROUPS; ++g) begin
          maximum_valid[g] <= head_q + 10'(g) < query_heads_q && (g == 0 || (wide && g < LANES >> head_level));
          maximum[g] <= wide ? level[head_level][g] : largest;
        end
      end else begin
        largest_q <= largest;
        written_q <= written_q + 11'd1;
      end
    end
    if (start) begin
      head_q <= '0;
      largest_q <= '0;
      written_q <= '0;
      count_elements <= count_elements + 48'(size);
      count_maximum_elements <= count_maximum_elements + 48'(head_dim_q) * 48'(query_heads_q);
      count_words_read <= count_words_read + 48'(size);
      count_words_written <= count_words_written + 48'(size);
      count_table_entries <= count_table_entries + 48'(size);
    end
    if (rst) begin
      maximum_valid <= '0;
      {count_elements, count_maximum_elements, count_words_read, count_words_written, count_table_entries} <= '0;
    end
  end

  if (LATENCY < 4) begin : g_latency
    $error("VECTOR_LATENCY must be at least 4 for the rotary embedding");
  end
  if (LANES != 1 << LANE_BITS || LANES < 2) begin : g_lanes
    $error("VECTOR_LANES must be a power of two, at least 2");
  end

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> timer_q <= TIMER_BITS'(1) && size != '0)
  else $error("start_when_idle: a rotation is under way, or the vector is empty");
  head_fits : assert property (@(posedge clk) disable iff (rst) start |-> wide ? head_level != '0 : half_words << (LANE_BITS + 1) == head_dim_q)
  else $error("head_fits: head_dim %0d is neither a divisor of %0d lanes nor a multiple of twice as many", head_dim_q, LANES);
`endif
endmodule

`default_nettype wire
